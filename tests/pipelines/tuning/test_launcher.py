import pytest

from pipelines.tuning import launcher


@pytest.mark.parametrize(
    ("number", "count", "visible", "gpu"),
    [
        (0, 0, None, None),
        (1, 2, None, "1"),
        (2, 2, None, "0"),
        (0, 2, "2,3", "2"),
        (3, 2, "2,3", "3"),
        (1, 0, "", None),
    ],
)
def test_a_worker_gets_one_of_the_visible_gpus(number, count, visible, gpu):
    assert launcher.choose_gpu(number, count, visible) == gpu
