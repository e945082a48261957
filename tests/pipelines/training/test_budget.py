"""The fits of a stage end within `train.minutes`, whatever the machine."""

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from pipelines.training import selection, trainer
from pipelines.training.budget import LIMIT_S, TIMED, WARM_UP, measure_speed, plan_training
from pipelines.training.cross_fit import deal_folds
from pipelines.training.distillation import PATIENCE, student_settings
from pipelines.training.examples import Examples
from pipelines.training.pace import Pace
from tests.support.clocks import TickingClock
from tests.support.images import draw_cell

EPOCHS = 20
STEPS, REFIT_STEPS = 8, 12
"""Steps of an epoch on the training cells, and on these and the validation cells, as many as without a fold."""


@dataclass
class Context:
    """A task whose schemes have the same cells."""

    params: object
    cells: Examples
    classes = ("small", "large")
    schemes = ("grouped", "random")

    def examples(self, _):
        return self.cells


@pytest.fixture
def make_context(make_params, rng):
    """Return what makes a task of 96 discs with so many minutes and seeds."""
    targets = np.arange(96, dtype=np.int64) % 2
    pixels = np.stack([draw_cell(rng, 60, 80, radius=(8, 14)[t]) for t in targets])
    rows = np.arange(len(targets))
    quick = {"backbone": "compact", "batch_size": 8, "patience": 99, "threads": 1}

    def make(minutes, seeds=(0,), epochs=EPOCHS):
        changes = {f"train.{name}": value for name, value in (quick | {"epochs": epochs}).items()}
        params = make_params(changes | {"train.minutes": minutes, "train.seeds": list(seeds), "calibrate.folds": 2})
        return Context(params, Examples(pixels, targets, rows[:64], rows[64:]))

    return make


def test_speed_is_that_of_a_step_after_the_first_ones(make_context):
    context, clock = make_context(1), TickingClock(0.1)
    speed = measure_speed(context.cells, 2, context.params.train, clock)
    assert speed.step_s == pytest.approx(0.1)
    assert speed.cell_s == pytest.approx(0.1 / 64)
    assert clock.now_s == pytest.approx(0.1 * (1 + WARM_UP + TIMED + 2))
    assert speed.fit_s(context.params.train, 64, 32) == pytest.approx(EPOCHS * (STEPS * 0.1 + 0.05))


def test_a_model_of_several_views_is_timed_as_it_is_asked(make_context):
    context, clock = make_context(1), TickingClock(0.1)
    several = context.params.train.model_copy(update={"views": "symmetries"})
    views = []

    def look():
        views.append(clock.now_s)
        return clock()

    speed = measure_speed(context.cells, 2, several, look)
    assert len(views) == 1 + WARM_UP + TIMED + 4
    assert speed.asked_s == pytest.approx(0.1 / 64)


def test_timing_stops_where_steps_take_seconds(make_context):
    context, clock = make_context(1), TickingClock(LIMIT_S + 1)
    assert measure_speed(context.cells, 2, context.params.train, clock).step_s == LIMIT_S + 1
    assert clock.now_s == 4 * (LIMIT_S + 1)


def test_where_time_is_enough_nothing_changes(make_context):
    context = make_context(60)
    settings = {"single": [context.params.train]}
    plan = plan_training(context, settings, TickingClock())
    assert plan.settings == settings
    assert plan.epochs == EPOCHS
    assert plan.slack > 1


def test_epochs_are_as_many_as_fit(make_context, caplog):
    # Seconds of an epoch of all fits: of the candidate, its two folds and its refit, twice. They are asked for all
    # cells, both as held out and as fitted on, and the refit is asked for all of its.
    one, asking = 2 * (STEPS + 0.5 + 3 * REFIT_STEPS), 2 * 3 * 96 / 64
    minutes = ((11.2 * one + asking) / 0.9 + 20) / 60
    context = make_context(minutes)
    plan = plan_training(context, {"single": [context.params.train]}, TickingClock())
    assert plan.epochs == 11
    assert plan.settings["single"] == [context.params.train.model_copy(update={"epochs": 11})]
    assert "they get 11 epochs. Raise" in caplog.text


def test_half_of_the_epochs_are_planned_on_a_machine_that_is_busy_now(make_context, caplog):
    context = make_context(1)
    plan = plan_training(context, {"single": [context.params.train]}, TickingClock())
    assert plan.epochs == EPOCHS // 2
    assert plan.slack < 1
    assert "they get 10 epochs, and end before these are over unless it becomes faster" in caplog.text


def test_seeds_and_candidates_take_their_part(make_context):
    def planned(candidates, **changes):
        context = make_context(33, **changes)
        train = context.params.train
        members = [train, train.model_copy(update={"dropout": 0.1})]
        settings = {"single": members[:1], "ensemble": members}
        return plan_training(context, {name: settings[name] for name in candidates}, TickingClock()).epochs

    alone = planned(["single"])
    assert (
        alone > planned(["single"], seeds=(0, 1, 2)) > planned(["single", "ensemble"], seeds=(0, 1, 2)) >= EPOCHS // 2
    )


@contextmanager
def untracked(_name, _settings):
    yield lambda *_: None


@pytest.mark.parametrize(
    ("minutes", "slowdown"), [(6.0, 1.0), (2.0, 1.0), (2.0, 0.1), (4.0, 1.0), (4.0, 3.0), (0.6, 2.0)]
)
def test_all_fits_end_within_the_budget(make_context, monkeypatch, minutes, slowdown):
    """Also where steps take longer than those that were timed, and where not one epoch fits.

    Where they take less, because what kept the machine busy is over, all that is planned is trained.
    """
    context, clock = make_context(minutes, epochs=4), TickingClock()
    plan = plan_training(context, {"single": [context.params.train]}, clock)
    clock.tick_s = slowdown
    monkeypatch.setattr(trainer, "Pace", partial(Pace, clock=clock))
    groups, fits = np.array([f"g{i // 8}" for i in range(96)]), []
    for scheme in context.schemes:
        shared = context.params, untracked, plan.seconds
        folds = deal_folds(context.examples(scheme), groups, context.params.calibrate, whole=True)
        [candidate] = selection.train_candidates(
            context.examples(scheme), folds, 2, list(plan.settings.values()), *shared
        )
        fits += [candidate, selection.refit_candidate(candidate, context.examples(scheme), 2, 0, *shared)]
    # Besides, each of a candidate's fits (one, two folds, a refit) reads the clock once before it starts, and ends the
    # step that it is in.
    assert clock.now_s <= minutes * 60 + 2 * slowdown * 4 * len(context.schemes)
    assert plan.epochs == (3 if minutes > 4 else 2)
    assert any(fit.shortened for fit in fits) == (slowdown > plan.slack)


@pytest.mark.parametrize("slowdown", [1.0, 2.0])
def test_a_distilled_candidate_and_its_teacher_end_within_the_budget(make_context, monkeypatch, slowdown):
    """Its networks are trained with those that teach it, under the second scheme too, where nothing else is."""
    minutes, clock = 7.9, TickingClock()
    context = make_context(minutes, epochs=2)
    members = [context.params.train, context.params.train.model_copy(update={"dropout": 0.1})]
    student = student_settings(members, (60, 80))
    plan = plan_training(context, {"ensemble": members, "distilled": [student]}, clock, members)
    assert plan.epochs == 1
    assert [member.epochs for member in plan.teacher] == [plan.epochs] * 2
    assert plan.settings["distilled"][0].epochs == PATIENCE * plan.epochs
    assert plan.settings["ensemble"] == plan.teacher, "or they would be trained twice over"
    clock.tick_s = slowdown
    monkeypatch.setattr(trainer, "Pace", partial(Pace, clock=clock))
    groups, fits, shared = np.array([f"g{i // 8}" for i in range(96)]), [], (context.params, untracked, plan.seconds)
    for scheme, names in zip(context.schemes, (["ensemble", "distilled"], ["distilled"]), strict=True):
        cells = context.examples(scheme)
        folds = deal_folds(cells, groups, context.params.calibrate, whole=True)
        settings = [plan.settings[name] for name in names]
        candidates = selection.train_candidates(cells, folds, 2, settings, *shared, teacher=plan.teacher)
        assert [candidate.name for candidate in candidates] == names
        fits += candidates
        fits += [selection.refit_candidate(candidate, cells, 2, 0, *shared) for candidate in candidates]
    # Each of 14 fits, and then of 12, reads the clock before it starts, and ends the step that it is in.
    assert clock.now_s <= minutes * 60 + 2 * slowdown * 26
    assert any(fit.shortened for fit in fits) == (slowdown > plan.slack)
