import numpy as np
import pytest

from fatescope.inference.track_evidence import TrackEvidence, accumulate, answer_track, log_ratios

PRIOR = np.array([0.5, 0.3, 0.2])


def evidence(correlation=0.0, scale=1.0):
    return TrackEvidence(correlation=correlation, scale=scale, frames=8, tracks=100)


def after(probabilities, how, starts=(0,), counts=None):
    values = np.array(probabilities)
    counts = np.ones(len(values), bool) if counts is None else np.array(counts)
    return accumulate(log_ratios(values, PRIOR), counts, np.array(starts), PRIOR, how)


def test_one_image_keeps_its_answer_and_independent_ones_multiply():
    one, other = np.array([0.2, 0.5, 0.3]), np.array([0.4, 0.4, 0.2])
    found = after([one, other], evidence())
    assert found[0] == pytest.approx(one)
    product = one * other / PRIOR
    assert found[1] == pytest.approx(product / product.sum())


def test_the_same_image_again_says_nothing_new_where_images_correlate_fully():
    found = after([[0.2, 0.5, 0.3]] * 5, evidence(correlation=1.0))
    assert found == pytest.approx(np.tile([0.2, 0.5, 0.3], (5, 1)))


def test_the_more_images_correlate_the_less_sure_is_their_answer():
    surest = [after([[0.3, 0.5, 0.2]] * 6, evidence(r))[-1].max() for r in (0.0, 0.2, 0.5, 1.0)]
    assert surest == sorted(surest, reverse=True)


def test_tracks_do_not_mix_and_unlike_images_do_not_count():
    rows = [[0.2, 0.5, 0.3], [0.9, 0.05, 0.05], [0.1, 0.1, 0.8]]
    how = evidence(0.3, 0.9)
    together = after(rows, how, starts=(0, 2), counts=[True, False, True])
    assert together[:2] == pytest.approx(np.repeat(after(rows[:1], how), 2, axis=0))
    assert together[2:] == pytest.approx(after(rows[2:], how))


def test_an_impossible_class_stays_possible():
    found = after([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]], evidence())
    assert np.isfinite(found).all()
    assert found[1].argmax() == 1 or found[1].max() < 1


def answer(rows, counts=None, coverage=0.6):
    counts = np.ones(len(rows), bool) if counts is None else np.array(counts)
    return answer_track(np.array(rows), counts, PRIOR, evidence(), coverage)


def test_a_call_settles_where_it_stays_to_the_end():
    found = answer([[0.1, 0.8, 0.1], [0.9, 0.05, 0.05], [0.2, 0.6, 0.2], [0.3, 0.6, 0.1]])
    assert (found.best, found.since, found.sure_since, found.verdict) == (1, 2, 2, "sure")
    back_and_forth = answer([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], coverage=0.95)
    assert (back_and_forth.best, back_and_forth.since, back_and_forth.verdict) == (2, 1, "unsure")


def test_a_cell_of_which_no_image_counts_is_unlike_the_training_cells():
    found = answer([[0.1, 0.8, 0.1]] * 2, counts=[False, False])
    assert (found.verdict, found.sure_since) == ("unlike_training", None)
    assert found.probabilities == pytest.approx(np.tile(PRIOR, (2, 1)))
