import numpy as np
import pandas as pd

from fatescope.data import table_parts
from pipelines.stages import card


def test_the_most_confident_predictions_of_all_classes_are_shown(tmp_path, monkeypatch):
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
    chosen = card.choose_examples(table)
    assert chosen["right"].tolist() == [True] * card.SHOWN + [False] * card.SHOWN
    for _, examples in chosen.groupby("right"):
        assert examples["label"].value_counts().to_dict() == {"a": 2, "b": 2}
    wrong = table[(table["label"] == "a") & (table["predicted"] == "b")]
    assert wrong.loc[wrong["p_b"].idxmax(), "cell_id"] in set(chosen["cell_id"])
    # A part of a file at a time, of one scheme among others.
    both = pd.concat([table.assign(split="random", p_a=1.0), table.assign(split="grouped")])
    both.to_parquet(tmp_path / "predictions.parquet", index=False)
    monkeypatch.setattr(table_parts, "PART", 7)
    kept = card.read_most_confident(tmp_path / "predictions.parquet", "grouped")
    assert len(kept) <= 4 * card.SHOWN
    again = card.choose_examples(kept)[chosen.columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, chosen.reset_index(drop=True))
