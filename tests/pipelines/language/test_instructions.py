"""Pairs of questions and answers say what is measured, in the form of LLaVA."""

import json

import numpy as np
import pytest
from PIL import Image

from fatescope import config
from fatescope.data import dataset, splits
from fatescope.errors import DataError
from pipelines.language import answers, conversations, facts, instructions, llava, pictures, prompt
from pipelines.language.facts import WORDS, Facts, Scale

SCALE = Scale(
    limits={prompt.SIZE: (20, 30), prompt.SHAPE: (1.2, 1.4), prompt.TEXTURE: (2, 3), prompt.FOCUS: (1, 2)},
    pixel_size_um=None,
)
CELL = Facts(label="RA/SHH", size=31.4, elongation=1.1, grain=2.5, focus=0.4, sure=0.7)
CLASSES = ["astrocyte", "RA/SHH", "NT3"]


def test_lines_have_the_form_of_llava(made):
    lines = (made.folder / "pairs/test.jsonl").read_text().splitlines()
    assert len(lines) == len(made.data.rows["test"])
    content = json.loads(lines[0])
    assert set(content) == {"id", "image", "conversations"}
    assert content["conversations"][0]["value"].startswith("<image>\n")
    assert [turn["from"] for turn in content["conversations"]] == ["human", "gpt"] * len(prompt.TOPICS)
    assert sum("<image>" in turn["value"] for turn in content["conversations"]) == 1
    with Image.open(made.folder / "pairs" / content["image"]) as picture:
        assert (picture.mode, picture.size) == ("L", (80, 80))


def test_parts_are_those_of_the_split(made):
    parts = splits.load(made.folder / "splits.parquet")
    for part, rows in made.data.rows.items():
        assert rows == parts.indices("grouped", part, made.data.classes).tolist()


def test_words_follow_the_training_cells_alone(made):
    sizes = [known.size for known in made.data.facts["train"]]
    np.testing.assert_allclose(made.data.scale.limits[prompt.SIZE], np.quantile(sizes, [1 / 3, 2 / 3]))
    manifest = dataset.load(made.folder / "cells").manifest
    assert [f.focus for f in made.data.facts["test"]] == pytest.approx(
        manifest["focus"].to_numpy()[made.data.rows["test"]]
    )
    # Drawn with radii of 8 and 14 px: the larger class is larger.
    by_class = [np.mean([f.size for f in made.data.facts["train"] if f.label == name]) for name in made.data.classes]
    assert by_class[0] > 1.3 * by_class[1]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_the_shape_of_a_cell_is_not_that_of_its_crop(width):
    y, x = np.mgrid[:60, :80] - np.array([29.5, 39.5])[:, None, None]
    crop = (np.abs(y) <= 20) & (np.abs(x) <= width / 2)
    noise = np.random.default_rng(0).normal(0, 8, (60, 80))
    drawn = [1000 + np.where(crop, noise, 0) - 100 * (np.hypot(y, x / length) < 10) for length in (1, 1.5)]
    found = facts.elongation(np.rint(drawn).astype(np.uint16))
    np.testing.assert_allclose(found, [1, 1.5], atol=0.06)


def test_a_folder_with_files_is_not_written_over(made):
    with pytest.raises(DataError, match="is not empty"):
        instructions.write(
            config.load(made.params),
            made.folder / "cells",
            made.folder / "splits.parquet",
            "binary",
            made.folder / "pairs",
            scheme="grouped",
            pixel_size_um=None,
        )


def test_pairs_say_which_images_are_of_one_cell(made, tmp_path):
    assert made.data.tracks is None
    params = config.load(made.params)
    followed = params.model_copy(update={"dataset": params.dataset.model_copy(update={"track": "run", "time": "day"})})
    places = made.folder / "cells", made.folder / "splits.parquet"
    instructions.write(followed, *places, "binary", tmp_path, scheme="grouped", pixel_size_um=None)
    found = instructions.Instructions.read(tmp_path / instructions.FACTS)
    for part, rows in found.rows.items():
        groups = dataset.load(places[0]).take(np.array(rows), ["group"])["group"].to_numpy(str)
        # Each group of these cells is one run, and so one track here.
        alike = [of_rows[:, None] == of_rows for of_rows in (np.array(found.tracks[part]), groups)]
        np.testing.assert_array_equal(*alike)


@pytest.mark.parametrize("topic", prompt.TOPICS)
@pytest.mark.parametrize("pixel_size_um", [None, 0.5])
def test_what_is_written_is_read_back_and_contradicts_nothing(topic, pixel_size_um):
    scale = SCALE.model_copy(update={"pixel_size_um": pixel_size_um})
    read = answers.read(answers.write(topic, CELL, scale), topic, CLASSES)
    assert answers.parsed(read, topic)
    assert answers.contradictions(read, CELL, scale) == []
    if topic in (prompt.MEDIUM, prompt.DESCRIBE):
        assert read.medium == "RA/SHH"
    if topic in (prompt.SIZE, prompt.DESCRIBE):
        assert (read.size, read.unit) == ((31, "px") if pixel_size_um is None else (31.4, "um"))


@pytest.mark.parametrize(
    ("topic", "text", "wrong"),
    [
        (prompt.SIZE, "It is small, about 31 px across.", [prompt.SIZE]),
        (prompt.SIZE, "It is large, about 50 px across.", [prompt.SIZE]),
        (prompt.SIZE, "It is about 31 um across.", [prompt.SIZE]),
        (prompt.SIZE, "It is large, about 29 px across.", []),
        (prompt.FOCUS, "The image is sharp.", [prompt.FOCUS]),
        (prompt.FOCUS, "The image is fairly sharp.", [prompt.FOCUS]),
        (prompt.FOCUS, "The image is soft.", []),
        (prompt.TEXTURE, "It is slightly grainy.", []),
    ],
)
def test_an_answer_that_is_not_measured_contradicts(topic, text, wrong):
    assert answers.contradictions(answers.read(text, topic, CLASSES), CELL, SCALE) == wrong


def test_a_word_next_to_its_third_is_no_contradiction():
    near = CELL.model_copy(update={"focus": 0.9})
    for text, wrong in (("The image is fairly sharp.", []), ("The image is sharp.", [prompt.FOCUS])):
        assert answers.contradictions(answers.read(text, prompt.FOCUS, CLASSES), near, SCALE) == wrong


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        (prompt.MEDIUM, "astrocyte or NT3"),
        (prompt.MEDIUM, "I cannot tell."),
        (prompt.MEDIUM, "NT30"),
        (prompt.SURE, "Perhaps."),
        (prompt.SIZE, "It is 31 across."),
        (prompt.FOCUS, "soft, or sharp"),
        (prompt.DESCRIBE, "The cell is large. Its medium is likely NT3."),
    ],
)
def test_what_does_not_say_what_was_asked_is_not_parsed(topic, text):
    assert not answers.parsed(answers.read(text, topic, CLASSES), topic)


def test_pictures_do_not_change_with_illumination_and_gain():
    rng = np.random.default_rng(0)
    cell = rng.normal(0, 40, (60, 80))
    cell[:8], cell[-8:], cell[:, :8], cell[:, -8:] = 0, 0, 0, 0
    dim, bright = (
        np.asarray(pictures.draw((level + gain * cell).astype(np.uint16))) for level, gain in ((500, 1), (4000, 3))
    )
    assert dim[0, 0] == bright[0, 0] == pictures.MIDDLE
    assert np.abs(dim.astype(int) - bright).max() <= 3
    assert dim.std() > 10


def test_labels_are_the_answers_and_their_ends(made):
    model = llava.load(made.folder / "tiny")
    rng = np.random.default_rng(0)
    drawn = [conversations.draw_questions(conversation, 3, rng) for conversation in made.conversations[:2]]
    batch = conversations.encode(model, drawn, rng)
    for i, conversation in enumerate(drawn):
        kept = batch["labels"][i][batch["labels"][i] != conversations.IGNORED]
        expected = "".join(f" {answer}</s>" for _, answer in conversation.pairs)
        assert model.processor.tokenizer.decode(kept) == expected
    assert set(WORDS) < set(prompt.TOPICS)
