from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from fatescope.config import load
from fatescope.networks.network import Ensemble
from pipelines.stages.train import candidate_settings, choose
from pipelines.training import distillation, selection, trainer
from pipelines.training.cross_fit import deal_folds
from pipelines.training.distillation import distillation_loss, student_settings, teach
from pipelines.training.examples import Examples
from pipelines.tuning.summary import without_search
from tests.support.images import draw_cell
from tests.support.project import ROOT

CANVAS = 60, 80


def stub_candidate(name, loss, balanced_accuracy, multiply_adds):
    return SimpleNamespace(
        name=name,
        calibration=SimpleNamespace(loss=loss, balanced_accuracy=balanced_accuracy),
        model=SimpleNamespace(multiply_adds=multiply_adds),
    )


@pytest.fixture
def settings(make_params):
    quick = {"backbone": "compact", "epochs": 2, "batch_size": 16, "learning_rate": 0.01, "threads": 1}
    return lambda **changes: make_params({f"train.{k}": v for k, v in {**quick, **changes}.items()})


@pytest.fixture
def examples(rng):
    """Discs of two sizes."""
    targets = np.arange(64, dtype=np.int64) % 2
    pixels = np.stack([draw_cell(rng, 60, 80, radius=(8, 14)[t]) for t in targets])
    rows = np.arange(len(targets))
    return Examples(pixels, targets, rows[:48], rows[48:])


def test_who_agrees_with_the_teacher_is_left_with_the_labels():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.3, -2.0]])
    targets, weights = torch.tensor([0, 2]), torch.tensor([0.5, 1.0, 2.0])
    labels = functional.cross_entropy(logits, targets, weights)
    # A constant added to all logits of a cell says nothing.
    alike = distillation_loss(logits, logits + 3, targets, weights, 0.0)
    assert float(alike) == pytest.approx(distillation.LABEL_SHARE * float(labels), rel=1e-5)
    other = distillation_loss(logits, logits.flip(1), targets, weights, 0.0)
    assert float(other) > float(alike)


def test_rare_classes_count_as_much_for_the_teacher_as_for_the_labels():
    logits, taught = torch.zeros(2, 2), torch.tensor([[4.0, 0.0], [0.0, 0.0]])
    targets = torch.tensor([0, 1])
    first, second = (
        float(distillation_loss(logits, taught, targets, torch.tensor(weights), 0.0))
        for weights in ([1.0, 1.0], [1.0, 9.0])
    )
    labels = distillation.LABEL_SHARE * np.log(2)
    # The cell that the student has yet to learn is of the class with a tenth of the weight.
    assert (second - labels) == pytest.approx((first - labels) / 5, rel=1e-4)


def test_a_member_of_another_input_size_sees_the_same_view(settings):
    params = settings().train
    members = [trainer.build_network(params.changed({"input_size": size}), 2).eval() for size in ([45, 60], [60, 60])]
    ensemble = Ensemble(members, 2, "probabilities").eval()
    pixels = torch.rand(3, 1, 60, 80) * 1000 + 500
    taught = teach(ensemble, members[0].preprocess(pixels))
    with torch.inference_mode():
        torch.testing.assert_close(taught, ensemble(pixels).logits, rtol=1e-4, atol=1e-4)
    assert not taught.requires_grad


def test_what_can_be_taught_is(settings):
    train = settings(backbone="resnet18", input_size=[60, 60], epochs=5).train
    student = student_settings([train, train.changed({"input_size": [45, 60]})], CANVAS)
    assert (student.backbone, student.input_size, student.distil) == ("compact", (45, 60), True)
    assert student.epochs == 5 * distillation.PATIENCE
    compact = train.changed({"backbone": "compact"})
    assert student_settings([compact], CANVAS) is None
    assert student_settings([compact, compact], CANVAS) is not None
    assert student_settings([train, train.changed({"normalisation": "background"})], CANVAS) is None


@pytest.mark.parametrize(
    ("resize", "sizes", "expected"),
    [
        ("pad", [(60, 60), (75, 100)], (75, 100)),  # by way of 60x60 a cell would be three quarters as large in it
        ("pad", [(60, 60), (50, 72)], None),
        ("pad", [(60, 60), (45, 60)], (45, 60)),
        ("pad", [(50, 72), (60, 80)], (60, 80)),  # the smaller one has padding at the top
        ("pad", [(46, 60), (75, 100)], (46, 60)),  # but for a pixel
        ("stretch", [(60, 60), (75, 100)], (60, 60)),
    ],
)
def test_a_student_sees_cells_from_which_the_views_of_its_teachers_follow(settings, resize, sizes, expected):
    train = settings(backbone="resnet18", resize=resize).train
    student = student_settings([train.changed({"input_size": size}) for size in sizes], CANVAS)
    assert (student and student.input_size) == expected


@pytest.mark.parametrize("backbone", ["resnet18", "compact"])
def test_the_student_of_frozen_networks_is_trained_as_a_whole(settings, backbone):
    """On random weights that it keeps, it could learn nothing; and no file of settings can say so."""
    train = settings(backbone=backbone, weights="backbone.safetensors", freeze=True, groups="dro").train
    student = student_settings([train, train], CANVAS)
    assert (student.freeze, student.groups) == (False, "pooled")
    assert student.weights == ("none" if backbone == "resnet18" else train.weights)
    assert student.changed({}) == student


def test_a_distilled_candidate_stands_beside_its_teacher(settings, caplog):
    params = settings(backbone="resnet18", distil=True)
    candidates = candidate_settings(params, without_search())
    assert {name: [member.distil for member in members] for name, members in candidates.items()} == {
        "single": [False],
        "distilled": [True],
    }
    assert list(candidate_settings(settings(distil=False), without_search())) == ["single"]
    assert not caplog.records
    assert list(candidate_settings(settings(distil=True), without_search())) == ["single"]
    assert "nothing is distilled" in caplog.text


@pytest.mark.parametrize(("accuracy", "chosen"), [(0.89, "distilled"), (0.88, "ensemble")])
def test_what_was_distilled_is_served_where_it_is_as_good(accuracy, chosen):
    candidates = [
        stub_candidate("single", 0.5, 0.85, 1e6),
        stub_candidate("ensemble", 0.3, 0.9, 1e7),
        stub_candidate("distilled", 0.4, accuracy, 1e6),
    ]
    assert candidates[choose(candidates)].name == chosen
    assert choose(candidates[:2]) == 1


def test_what_was_distilled_is_not_served_in_place_of_a_better_network_of_its_cost():
    candidates = [
        stub_candidate("single", 0.3, 0.9, 1e6),
        stub_candidate("ensemble", 0.4, 0.9, 1e7),
        stub_candidate("distilled", 0.4, 0.89, 1e6),
    ]
    assert candidates[choose(candidates)].name == "single"


def test_no_cell_that_is_held_out_is_known_to_the_teacher(settings, examples, monkeypatch):
    params, fit, seen, teachers = settings(), trainer.fit, {}, []

    def fit_and_note(cells, classes, member, seed, report, seconds, teacher):
        if teacher is not None:
            teachers.append((teacher, cells.train.tolist()))
        made = fit(cells, classes, member, seed, report, seconds, teacher)
        seen[made.network] = cells.train.tolist()
        return made

    names = []

    @contextmanager
    def open_run(name, _):
        names.append(name)
        yield lambda *_: None

    monkeypatch.setattr(trainer, "fit", fit_and_note)
    groups = np.array([f"g{i // 8}" for i in range(64)])
    calibrate = load(ROOT / "params.yaml").calibrate.model_copy(update={"folds": 2})
    folds = deal_folds(examples, groups, calibrate, whole=True)
    own = params.train
    teacher = [own, own.changed({"dropout": 0.3})]
    student = student_settings(teacher, CANVAS)
    joined, distilled = selection.train_candidates(
        examples, folds, 2, [teacher, [student]], params, open_run, teacher=teacher
    )
    again = selection.repeat_candidate(
        examples, folds, 2, distilled.members, params, open_run, teacher=distilled.teacher
    )
    selection.refit_candidate(distilled, examples, 2, 0, params, open_run)
    assert (joined.name, distilled.name, again.name) == ("ensemble", "distilled", "distilled")
    assert joined.teacher == []
    assert len(distilled.teacher) == 2
    assert distilled.model.multiply_adds < joined.model.multiply_adds
    assert distilled.fits.seconds > joined.fits.seconds
    assert names.count("fold 1 compact distilled") == 2
    assert names[-3:] == ["refit compact seed 0"] * 2 + ["refit compact distilled seed 0"]
    # One on the training cells, two folds, both once more, and the refit.
    assert len(teachers) == 6
    for model, cells in teachers:
        assert all(seen[member] == cells for member in model.members)
    np.testing.assert_allclose(again.unseen.logits, distilled.unseen.logits, rtol=1e-3, atol=1e-3)
