"""Looks at the same test groups are counted, and what they may spend adds up to the level."""

import numpy as np
import pytest

from benchmarks import verdicts
from fatescope.model_registry import model_name
from pipelines.registry import looks, versions
from pipelines.registry.records import Criterion, Verdict

GROUPS = ["a_1_1", "a_1_2", "o_1_1", "o_1_2"]
SEEN = frozenset(map(looks.digest, GROUPS))


def test_all_looks_together_spend_the_level():
    parts = [looks.spend(0.05, look) for look in range(1, 100_000)]
    assert parts[0] == pytest.approx(0.0304, abs=1e-4)
    assert parts == sorted(parts, reverse=True)
    assert sum(parts) == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize(
    ("groups", "earlier", "look"),
    [
        (GROUPS, [], 1),
        (GROUPS, [SEEN], 2),
        (GROUPS, [SEEN, SEEN], 3),
        (GROUPS, [frozenset(map(looks.digest, ["elsewhere"]))], 1),
        ([*GROUPS, "a_2_1", "o_2_1"], [SEEN], 2),  # 4 looks at 6 groups
        ([f"new{i}" for i in range(8)], [SEEN] * 9, 1),
        ([*GROUPS, *(f"new{i}" for i in range(12))], [SEEN] * 4, 2),  # 16 looks at 16 groups
        (GROUPS, [None], 2),  # of a verdict of earlier code
    ],
)
def test_new_groups_have_had_fewer_looks(groups, earlier, look):
    assert looks.count_look(groups, earlier) == look


def test_a_group_is_known_again_by_a_digest_that_does_not_change():
    """Registries keep them: another function would forget every look."""
    assert looks.digest("a_1_3") == "09428b19"
    assert len({looks.digest(f"{medium}_{i}") for medium in "aon" for i in range(300)}) == 900


def test_the_verdicts_of_a_task_are_its_looks(empty_registry, tmp_path):
    def register(criteria, task="binary"):
        name = model_name(task)
        verdict = Verdict(
            task=task, model=name, version="1", criteria=criteria, champion=False, replaced=None, compared=None
        )
        version = empty_registry.create_model_version(name, str(tmp_path))
        versions.set_tags(task, version.version, verdict.to_tags(versions.MAX_TAG))

    for task in ("binary", "other"):
        empty_registry.create_registered_model(model_name(task))
    digests = sorted(SEEN)
    register({"audit": Criterion(holds=True, detail="clean")})  # a first version, compared with none
    register({"better": Criterion(holds=False, detail="could not be compared")})
    register({"better": Criterion(holds=False, detail="worse", value=-0.1, look=1, groups=digests)})
    register({"better": Criterion(holds=True, detail="better, by a bootstrap", value=0.1)})  # of earlier code
    many = [looks.digest(str(i)) for i in range(2000)]
    register({"better": Criterion(holds=True, detail="better", value=0.1, look=2, groups=many)})
    register({"better": Criterion(holds=True, detail="better", value=0.1, groups=digests)}, task="other")
    empty_registry.create_model_version(model_name("binary"), str(tmp_path))  # registered and not decided on
    assert set(versions.earlier_looks("binary")) == {SEEN, None, frozenset(many)}
    assert len(versions.earlier_looks("binary")) == 3


@pytest.mark.slow
def test_a_challenger_that_is_no_better_is_seldom_promoted_by_any_of_ten_looks(params):
    """The bars of `fatescope bench verdicts` at fewer draws, with three standard errors for chance."""
    draws, rng = 150, np.random.default_rng(0)
    most = 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)
    for groups in (2, 3):
        population = verdicts.Population(2, groups)
        passed = [any(verdicts.promotions(population, params.gate, rng, 10)) for _ in range(draws)]
        assert np.mean(passed) <= most


@pytest.mark.slow
def test_a_gain_is_found_where_there_are_groups_enough(params):
    population, rng = verdicts.Population(2, 8, gain=0.05), np.random.default_rng(0)
    passed = [verdicts.promotions(population, params.gate, rng, 1)[0] for _ in range(200)]
    assert np.mean(passed) >= 0.8
