import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from fatescope.errors import BundleError, DataError
from fatescope.inference import bundle
from fatescope.teaching.graph_edit import replace_head
from fatescope.teaching.head import Head
from fatescope.teaching.lesson import teach
from fatescope.teaching.shortcuts import audit
from fatescope.teaching.taught_bundle import Facts, Teacher, write
from tests.support.bundles import COMMITTED
from tests.support.teaching import described

TEACHER = Teacher("nuclei", "ann", "fatescope-binary", "3")


def facts_of(count):
    return Facts(np.tile([45, 60], (count, 1)), np.arange(count, dtype=np.int64), [12])


@pytest.fixture(scope="module")
def lesson():
    cells, labels, placed = described()
    return cells, labels, placed, teach(cells, labels)


@pytest.fixture(scope="module")
def written(lesson, tmp_path_factory):
    cells, _, _, learned = lesson
    folder = tmp_path_factory.mktemp("taught") / "bundle"
    shortcuts = audit(cells, learned.targets, learned.classes, learned.folds)
    write(COMMITTED / "binary", folder, learned, cells, facts_of(len(cells.samples)), TEACHER, shortcuts)
    return folder


def test_a_taught_bundle_answers_as_its_head_does(lesson, written):
    cells, labels, placed, learned = lesson
    model = bundle.load(written, 1)
    model.check()
    logits = model.predict(placed).logits
    expected = learned.head.logits(cells.embedding, cells.features)
    assert np.abs(logits - expected).max() < 1e-3 * max(1, np.abs(expected).max())
    assert (np.array(model.spec.classes)[logits.argmax(1)] == labels).mean() > 0.9


def test_its_spec_says_who_taught_it_what_and_that_nobody_signed_it(written):
    spec = bundle.open_spec(written)
    assert (spec.task, spec.classes) == ("nuclei", ["dark", "plain"])
    assert (spec.taught.by, spec.taught.model, spec.taught.version) == ("ann", "fatescope-binary", "3")
    assert spec.taught.labels == {"dark": 30, "plain": 30}
    assert spec.taught.samples == 4
    assert "Nobody had signed it" in (written / "card.md").read_text()
    assert set(load_file(written / bundle.SEEN)["cells"]) >= set(range(60))


def test_most_cells_of_its_kind_are_not_unlike_its_own(lesson, written):
    _, _, placed, _ = lesson
    model = bundle.load(written, 1)
    assert (model.assess(model.predict(placed)).verdicts != "unlike_training").mean() > 0.9


def test_its_reference_is_what_heads_said_that_did_not_know_the_cells(lesson, tmp_path):
    cells, labels, _, _ = lesson
    learned = teach(cells, np.where(np.arange(len(labels)) % 5, labels, "dark"))
    write(COMMITTED / "binary", tmp_path / "b", learned, cells, facts_of(len(labels)), TEACHER, [])
    reference = pd.read_parquet(tmp_path / "b" / bundle.REFERENCE)
    found = reference[[f"p_{name}" for name in learned.classes]].to_numpy()
    assert found == pytest.approx(np.exp(learned.left_out), abs=1e-5)


def test_names_on_its_page_are_text(lesson, tmp_path):
    cells, labels, _, _ = lesson
    learned = teach(cells, np.where(labels == "dark", "<script>", "plain"))
    write(COMMITTED / "binary", tmp_path / "b", learned, cells, facts_of(len(labels)), TEACHER, [])
    assert "<script>" not in (tmp_path / "b" / "card.html").read_text()


def test_the_head_of_a_graph_put_back_gives_what_it_gave():
    folder = COMMITTED / "binary"
    model, weights = bundle.load(folder, 1), load_file(folder / bundle.WEIGHTS)
    before = model.predict(model.example)
    nothing = np.zeros((2, 25))
    head = Head("embedding", weights["linear.weight"], nothing, nothing[0], nothing[0] + 1, weights["linear.bias"])
    after = _run(replace_head((folder / bundle.GRAPH).read_bytes(), head, model.spec), model.example)
    assert np.allclose(after.logits, before.logits, atol=1e-5)
    assert np.allclose(after.activation_map, before.activation_map, atol=1e-5)


@pytest.mark.parametrize("design", ["features", "both"])
def test_a_graph_computes_simple_features_as_the_library_does(lesson, design):
    cells, _, placed, _ = lesson
    rng, size = np.random.default_rng(0), cells.features.shape[1]
    head = Head(
        design,
        rng.normal(size=(3, cells.embedding.shape[1])) * (design == "both"),
        rng.normal(size=(3, size)),
        cells.features.mean(0),
        cells.features.std(0) + 1e-3,
        rng.normal(size=3),
    )
    folder = COMMITTED / "binary"
    graph = replace_head((folder / bundle.GRAPH).read_bytes(), head, bundle.read_spec(folder))
    assert np.allclose(_run(graph, placed).logits, head.logits(cells.embedding, cells.features), atol=2e-3)


def test_a_graph_that_is_none_is_refused(lesson):
    with pytest.raises(BundleError, match="cannot take another head"):
        replace_head(b"\x08\x01", lesson[3].head, bundle.read_spec(COMMITTED / "binary"))


def test_a_task_that_is_a_path_is_refused(lesson, tmp_path):
    cells, _, _, learned = lesson
    with pytest.raises(DataError, match="no name of a task"):
        write(COMMITTED / "binary", tmp_path / "b", learned, cells, facts_of(60), Teacher("../x", "", "m", "1"), [])


def _run(graph, pixels):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(graph)
        return bundle.Graph(path, 1).predict(pixels)
