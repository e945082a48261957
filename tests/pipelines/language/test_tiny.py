"""A tiny LLaVA is loaded as any other folder."""

import numpy as np
import pytest
from PIL import Image
from transformers import AutoProcessor, AutoTokenizer, LlavaForConditionalGeneration

from pipelines.language import prompt, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    tiny.build(path, 60, ["The cell is about 31 px across."])
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
    tiny.build(tmp_path / "again", 60, ["The cell is about 31 px across."])
    weights = [(path / "model.safetensors").read_bytes() for path in (folder, tmp_path / "again")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(("side", "seen"), [(60, 60), (64, 60), (80, 80), (8, 10)])
def test_pictures_keep_their_resolution(tmp_path, side, seen):
    """Focus and texture are in what neighbouring pixels differ by."""
    tiny.build(tmp_path, side)
    drawn = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
    processor = AutoProcessor.from_pretrained(tmp_path)
    found = processor.image_processor([Image.fromarray(drawn)], return_tensors="pt")["pixel_values"][0, 0].numpy()
    assert found.shape == (seen, seen)
    if side >= seen:
        cut = (side - seen) // 2
        np.testing.assert_allclose(found * 0.125 + 0.5, drawn[cut : cut + seen, cut : cut + seen] / 255, atol=1e-5)
