"""A fit ends in time with its schedule at the end, and without time pressure it does not depend on the clock."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from pipelines.training import trainer
from pipelines.training.examples import Examples
from pipelines.training.pace import Pace
from tests.support.clocks import TickingClock
from tests.support.images import draw_cell


def strides(pace):
    taken = []
    while not pace.finished:
        taken.append(pace.advance())
    return taken


def test_without_a_limit_the_clock_is_not_read():
    clock = TickingClock()
    assert strides(Pace(50, math.inf, clock)) == [1] * 50
    assert clock.now_s == 0


@pytest.mark.parametrize("seconds", [101, 1000])
def test_with_time_enough_every_step_is_taken(seconds):
    pace = Pace(100, seconds, TickingClock())
    assert strides(pace) == [1] * 100
    assert not pace.shortened


@pytest.mark.parametrize(("steps", "seconds"), [(1000, 100), (100, 30), (100, 60), (17, 12), (100_000, 20)])
def test_a_fit_ends_in_time_at_the_end_of_its_schedule(steps, seconds):
    pace = Pace(steps, seconds, TickingClock())
    taken = strides(pace)
    assert sum(taken) == steps
    assert pace.shortened
    assert seconds * 0.8 <= len(taken) <= seconds


def test_a_fit_of_a_few_long_steps_ends_in_time_too():
    assert len(strides(Pace(9, 4, TickingClock()))) == 4


def test_a_machine_that_becomes_slower_is_noticed():
    clock = TickingClock()
    pace = Pace(100, 110, clock)
    assert [pace.advance() for _ in range(50)] == [1] * 50
    clock.tick_s = 3.0
    strides(pace)
    assert pace.shortened
    assert clock.now_s <= 113 + 3


def test_slow_first_steps_do_not_shorten_a_fit():
    clock = TickingClock(10.0)
    pace = Pace(100, 160, clock)
    taken = [pace.advance() for _ in range(5)]
    clock.tick_s = 1.0
    assert [*taken, *strides(pace)] == [1] * 100


@pytest.fixture
def examples(rng):
    """Discs of two sizes."""
    targets = np.arange(96, dtype=np.int64) % 2
    pixels = np.stack([draw_cell(rng, 60, 80, radius=(8, 14)[t]) for t in targets])
    rows = np.arange(len(targets))
    return Examples(pixels, targets, rows[:64], rows[64:])


@pytest.fixture
def settings(make_params):
    quick = {"backbone": "compact", "epochs": 20, "batch_size": 8, "learning_rate": 0.01, "patience": 99, "threads": 1}
    return make_params({f"train.{name}": value for name, value in quick.items()}).train


def test_a_fit_that_is_shortened_anneals_its_learning_rate(examples, settings, monkeypatch):
    monkeypatch.setattr(trainer, "Pace", partial(Pace, clock=TickingClock()))
    loop, rates = trainer.TrainingLoop(examples, 2, settings, 0, seconds=40), []
    while not loop.pace.finished:
        loop.run_epoch()
        rates.append(loop._schedule.get_last_lr()[0])
    assert len(rates) == 5, "of 20"
    assert rates[-1] < 1e-3 * settings.learning_rate
    assert max(rates) > 0.5 * settings.learning_rate


def test_a_fit_that_is_shortened_says_so_and_its_refit_takes_as_many_epochs(examples, settings, monkeypatch):
    monkeypatch.setattr(trainer, "Pace", partial(Pace, clock=TickingClock()))
    reports = []
    fit = trainer.fit(examples, 2, settings, 0, lambda epoch, _: reports.append(epoch), seconds=40)
    assert (fit.epochs, fit.shortened) == (5, True)
    assert reports == list(range(5))


def test_a_limit_that_is_not_reached_changes_nothing(examples, settings):
    short = settings.model_copy(update={"epochs": 2})
    free, limited = (trainer.fit(examples, 2, short, 0, lambda *_: None, seconds) for seconds in (math.inf, 1e6))
    assert not limited.shortened
    pairs = zip(free.network.state_dict().values(), limited.network.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
