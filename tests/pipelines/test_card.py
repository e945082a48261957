import numpy as np
import pandas as pd
import pytest

from pipelines import card


@pytest.mark.parametrize(
    ("backbone", "first", "step"), [("resnet18", 0, 32), ("compact", 3.5, 8), ("vgg19_bn", 7.5, 16)]
)
def test_where_a_position_of_the_feature_map_looks(backbone, first, step):
    found = card.align(backbone)
    assert found[1] == step
    assert found[0] == pytest.approx(first, abs=step / 8)


def test_the_map_lies_where_the_network_looked():
    # Canvas 60x80 padded to 45x60: three quarters. Position 1 of a ResNet looks at px 32 of the input.
    fit = {"input_size": [45, 60], "resize": "pad"}
    left, right, bottom, top = card.extent((40, 50), (60, 80), fit, (2, 2), (0.0, 32.0))
    middle_of_second = left + 0.75 * (right - left)
    assert middle_of_second == pytest.approx((50 - 1) / 2 + (32 - 29.5) / 0.75)
    assert (top + bottom) / 2 == pytest.approx((40 - 1) / 2 + (16 - 22) / 0.75)


def test_the_surest_calls_of_all_classes_are_shown():
    rng = np.random.default_rng(0)
    called = rng.integers(0, 2, 60)
    sure = rng.uniform(0.5, 1, 60)
    table = pd.DataFrame(
        {
            "cell_id": [f"c{i}" for i in range(60)],
            "label": np.array(["a", "b"])[rng.integers(0, 2, 60)],
            "predicted": np.array(["a", "b"])[called],
            "p_a": np.where(called == 0, sure, 1 - sure),
            "p_b": np.where(called == 1, sure, 1 - sure),
        }
    )
    chosen = card.choose(table)
    assert chosen["right"].tolist() == [True] * card.EACH + [False] * card.EACH
    for _, each in chosen.groupby("right"):
        assert each["label"].value_counts().to_dict() == {"a": 2, "b": 2}
    wrong = table[(table["label"] == "a") & (table["predicted"] == "b")]
    assert wrong.loc[wrong["p_b"].idxmax(), "cell_id"] in set(chosen["cell_id"])
