"""`fatescope describe`: of cells, of results, of saved answers; by the template and by a language model."""

import json
import shutil
import zipfile

import pytest

from tests.service.batch.test_cultures import finished
from tests.support.bundles import COMMITTED, copy_followed_bundle
from tests.support.chat_server import serving_chat
from tests.support.images import tiff, typical

ANSWER = {
    "model": {"name": "fatescope-binary", "version": "3"}, "task": "binary", "request_id": "1", "simulated": False,
    "outside_excluded": True, "cells": [],
    "sample": {"cells": 9, "refused": 0, "sure": 9, "unsure": 0, "unlike_training": 0, "other_channels": 0,
               "called": {"a": 9, "b": 0}, "composition": None},
    "samples": [
        {"sample": "run\x1b[31m", "cells": 9, "refused": 0, "sure": 9, "unsure": 0, "unlike_training": 0, "outside": 2,
         "outside_reasons": {"focus": 2}, "called": {"a": 9, "b": 0},
         "composition": {"a": {"share": 0.9, "low": 0.7, "high": 1}, "b": {"share": 0.1, "low": 0, "high": 0.3}}},
    ],
}  # fmt: skip
SHARED = {
    "fatescope_result": 1, "at": 1, "versions": 1, "unreadable": 0, "lossy": 0, "unusual_sizes": 0,
    "model": {"name": "m", "version": "1", "task": "binary", "backbone": "compact", "simulated": True},
    "classes": ["a", "b"],
    "samples": [{"name": "s", "verdicts": [7, 2, 0], "outside": [1, 0, 1, 0, 0, 0], "excluded": False,
                 "shares": [[0.9, 0.7, 1], [0.1, 0, 0.3]]}],
    "differences": [{"name": "sharpness", "here": 3, "known": 2, "edges": [0, 1], "here_shares": [1],
                     "known_shares": [1]}],
}  # fmt: skip


def saved(tmp_path, content):
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(content))
    return path


def test_each_sample_of_a_job_gets_a_paragraph(fatescope, tmp_path):
    out = finished(tmp_path / "out", {"control_r1": 0.1, "CHIR_r1": 0.7})
    result = fatescope("describe", out)
    assert result.code == 0, result.errors
    first, second = result.output.strip().split("\n\n")
    assert first.startswith("CHIR_r1\nAbout 7")
    assert "Of 300 classified cells, 300 are sure, 0 are unsure and 0 are unlike the training cells." in first
    assert "Whether the images differ from the training images was not measured here." in first
    assert first.endswith("(Written by a template: no language model is set up.)")
    assert "1 is unlike the training cells" in second
    [only] = json.loads(fatescope("describe", out, "--sample", "CHIR_r1", "--json").output)
    assert only["sample"] == "CHIR_r1"
    assert only["text"] in first
    assert "there are CHIR_r1, control_r1\n" in fatescope("describe", out, "--sample", "x").errors


def test_images_of_one_cell_are_many_cells_of_a_job_and_one_of_an_answer(fatescope, tmp_path):
    out = finished(tmp_path / "out", {"control_r1": 0.1})
    shutil.rmtree(out / "model")
    copy_followed_bundle(out / "model", "binary")
    assert "Several images of one cell count as so many cells." in fatescope("describe", out).output
    track = {"sample": "run\x1b[31m", "group": "a_1", "track": "17", "label": "a", "verdict": "sure", "since": 0,
             "sure_since": 0, "frames": []}  # fmt: skip
    answered = fatescope("describe", saved(tmp_path, ANSWER | {"tracks": [track]})).output
    assert "1 cell has several images: it counts once" in answered
    assert "several images" not in fatescope("describe", saved(tmp_path, ANSWER)).output


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_cells_are_classified_first(fatescope, tmp_path, packed):
    files = {f"dish_{run}/a_1d1_{i}_Ch1.ome.tif": tiff(typical(i)) for run in (1, 2) for i in range(3)}
    files["dish_1/bad_Ch1.tif"] = b"x"
    source = tmp_path / ("cells.zip" if packed else "cells")
    if packed:
        with zipfile.ZipFile(source, "w") as archive:
            for name, raw in files.items():
                archive.writestr(name, raw)
    else:
        for name, raw in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(raw)
    done = fatescope("describe", source, "--model", COMMITTED / "binary", "--json")
    assert done.code == 0, done.errors
    first, second = json.loads(done.output)
    assert [first["sample"], second["sample"]] == ["dish_1", "dish_2"]
    assert "1 image could not be read." in first["text"]
    assert "could not be read" not in second["text"]
    assert "3 " in second["text"]


def test_where_no_image_can_be_read_the_first_reason_is_told(fatescope, tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells/a_1d1_1_Ch1.ome.tif").write_bytes(b"x")
    refused = fatescope("describe", tmp_path / "cells", "--model", COMMITTED / "binary")
    assert refused.code == 1
    assert "none of the images could be read; the first of 1: a_1d1_1_Ch1.ome.tif" in refused.errors


def test_what_is_said_names_nothing_that_is_gone_by_then(fatescope, tmp_path):
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as archive:
        archive.writestr("dish/a_1d1_1_Ch2.ome.tif", tiff(typical(1)))
        archive.writestr("dish/a_1d1_2_Ch2.ome.tif", tiff(typical(2)))
    other = fatescope("describe", tmp_path / "cells.zip", "--model", COMMITTED / "binary")
    assert other.code == 1
    assert other.errors == (
        f"error: {tmp_path}/cells.zip: no file of channel 1, which the model takes; export the cells in that channel, "
        "or use a model of another one\n"
    )
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells/a_1d1_1_Ch1.ome.tif").write_bytes(tiff(typical(1)))
    (tmp_path / "cells/a_1d1_2_Ch1.ome.tif").write_bytes(b"x")
    done = fatescope("describe", tmp_path / "cells", "--model", COMMITTED / "binary")
    assert (done.code, done.errors) == (0, "")
    unnamed = fatescope("describe", tmp_path / "cells", "--model", COMMITTED / "binary", "--sample", "dish")
    assert "its images are in no folder, and so of one sample without a name; leave --sample out" in unnamed.errors


def test_a_file_that_is_nothing_to_describe_is_told_what_is(fatescope, tmp_path):
    (tmp_path / "cell.tif").write_bytes(tiff(typical(1)))
    assert "cell.tif: none of what is described; name a folder" in fatescope("describe", tmp_path / "cell.tif").errors


def test_a_saved_answer_is_described_and_its_names_are_harmless(fatescope, tmp_path):
    result = fatescope("describe", saved(tmp_path, ANSWER))
    assert result.output.startswith("run\N{REPLACEMENT CHARACTER}[31m\nAbout 90 % of the cells are as (95 % interval")
    assert "2 cells are outside the quality gates: 2 are out of focus." in result.output
    assert "Cells outside the quality gates do not count in it." in result.output


def test_a_shared_result_is_described(fatescope, tmp_path):
    result = fatescope("describe", saved(tmp_path, SHARED))
    assert "Of 9 classified cells, 7 are sure, 2 are unsure and 0 are unlike the training cells." in result.output
    assert "1 cell is outside the quality gates: 1 shows more than one cell." in result.output
    assert "sharpness, typically 3 here and 2 in training" in result.output
    assert "simulated cells only" in result.output


def test_no_name_of_a_class_in_a_file_commands_the_terminal(fatescope, tmp_path):
    result = fatescope("describe", saved(tmp_path, SHARED | {"classes": ["\x1b]0;x\x07", "b"]}))
    assert "are \N{REPLACEMENT CHARACTER}]0;x" in result.output
    assert "\x1b" not in result.output


def sample_of(answer, **changes):
    """Return an answer whose only sample is changed."""
    return answer | {"samples": [answer["samples"][0] | changes]}


MANY = [f"c{number}" for number in range(1000)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (sample_of(SHARED, verdicts=[10**400, 0, 0]), "less than or equal to"),
        (sample_of(SHARED, shares=[[1, 1, 1]] + [[0, 0, 0]] * 999) | {"classes": MANY}, "over 200 classes"),
        (SHARED | {"classes": ["a", "a"]}, "two of one name"),
        (sample_of(ANSWER, composition={"z": {"share": 1, "low": 1, "high": 1}}), "the share of each of a, b"),
        (sample_of(ANSWER, sure=10), "do not add up to cells"),
        (sample_of(SHARED, shares=[[0.9, 0.95, 1], [0.1, 0, 0.3]]), "outside its interval"),
    ],
)
def test_figures_of_a_file_that_contradict_each_other_are_one_line(fatescope, tmp_path, content, reason):
    result = fatescope("describe", saved(tmp_path, content))
    assert result.code == 1
    assert reason in result.errors
    assert result.errors.count("\n") == 1


@pytest.mark.parametrize(
    "content",
    [{}, [], {"fatescope_result": 2}, SHARED | {"classes": ["a"]}, SHARED | {"samples": [{}]}, ANSWER | {"sample": 3}],
)
def test_any_other_file_is_one_line(fatescope, tmp_path, content):
    result = fatescope("describe", saved(tmp_path, content))
    assert result.code == 1
    assert "not an answer of /classify_batch, nor a result that the page has saved" in result.errors
    assert result.errors.count("\n") == 1


def test_what_is_not_there_is_named(fatescope, tmp_path):
    assert "not there; name a folder" in fatescope("describe", tmp_path / "nothing").errors


def test_a_language_model_writes_it_unless_the_template_is_asked_for(fatescope, tmp_path, monkeypatch):
    text = "90 % of the 9 cells are [A] (95 % interval 70 to 100 %) and 10 % are [B] (0 to 30 %)."
    with serving_chat(text) as endpoint:
        monkeypatch.setenv("FATESCOPE_LANGUAGE_URL", endpoint.url)
        monkeypatch.setenv("FATESCOPE_LANGUAGE_MODEL", "tiny")
        path = saved(tmp_path, ANSWER)
        [written] = json.loads(fatescope("describe", path, "--json").output)
        by_template = fatescope("describe", path, "--template").output
        assert len(endpoint.bodies) == 1
    assert written["source"] == "model"
    assert written["text"].startswith(
        "90 % of the 9 cells are as (95 % interval 70 to 100 %) and 10 % are bs (0 to 30 %)."
    )
    assert "run" not in json.dumps(endpoint.bodies)
    assert "(Written by a template: it was asked for.)" in by_template
