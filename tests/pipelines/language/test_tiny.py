"""A tiny LLaVA is loaded as any other folder."""

import numpy as np
import pytest
from PIL import Image
from transformers import AutoProcessor, AutoTokenizer, LlavaForConditionalGeneration

from pipelines.language import prompt, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    tiny.build(path, ["The cell is about 31 px across."])
    return path


def test_a_tiny_folder_is_loaded_by_transformers_and_answers(folder):
    model, processor = LlavaForConditionalGeneration.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    turns = [prompt.from_human(prompt.question(prompt.SIZE, []))]
    text = processor.apply_chat_template(turns, add_generation_prompt=True)
    assert text == "USER: <image>\nHow large is the cell? ASSISTANT:"
    image = Image.fromarray(np.full((60, 60), 128, np.uint8))
    inputs = processor(images=[image], text=[text], return_tensors="pt")
    assert inputs["pixel_values"].abs().max() < 0.1
    written = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert written.shape[1] <= inputs["input_ids"].shape[1] + 3


def test_its_tokens_spell_any_text(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in ("The cell is about 28 px across.", "wächst in RA/SHH, 12.5 µm"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert len(tokenizer("The cell is about")["input_ids"]) == 5


def test_the_same_seed_gives_the_same_weights(folder, tmp_path):
    tiny.build(tmp_path / "again", ["The cell is about 31 px across."])
    weights = [(path / "model.safetensors").read_bytes() for path in (folder, tmp_path / "again")]
    assert weights[0] == weights[1]
