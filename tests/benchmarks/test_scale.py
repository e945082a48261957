"""The comparison of stages at two sizes, and the time of the audit, run at all."""

import pytest

from benchmarks import scale, scale_audit, scale_stages
from fatescope.errors import FatescopeError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scale") / "drawn"
    scale.draw(folder, 240)
    return folder


def test_stages_are_compared_at_two_sizes(drawn):
    figures = scale_stages.compare(drawn, (240, 600), ["ingest", "split"])
    assert [figure.figure for figure in figures if figure.bar] == [
        f"{stage}: peak memory at 600 over 240 cells" for stage in ("ingest", "split")
    ]
    assert all(figure.value > 0 for figure in figures)


def test_a_stage_that_fails_says_why(drawn):
    # There is nothing to evaluate.
    with pytest.raises(FatescopeError, match=r"the stage evaluate failed on 240 cells:\n(.*\n)*.*splits.parquet"):
        scale_stages.compare(drawn, (240, 480), ["evaluate"])


def test_the_stages_are_those_of_the_flow():
    assert scale_stages.all_stages()[0] == "ingest"
    assert scale_stages.all_stages()[-1] == "register"
    assert len(scale_stages.all_stages()) == 10


def test_the_audit_is_timed():
    seconds, pairs = scale_audit.figures(270, 3)
    assert (seconds.bar, pairs.value) == ("<= 60", 3)
    assert seconds.value > 0
