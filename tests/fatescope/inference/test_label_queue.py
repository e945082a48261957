"""Batches of cells to label; what is asked of them is tested with the commands, the service and the monitor."""

import numpy as np
import pandas as pd

from fatescope.inference import label_queue

PRIOR = np.array([0.5, 0.5])


def test_batches_that_are_drawn_within_a_second_are_read_in_their_order(tmp_path):
    rng = np.random.default_rng(0)
    drawn = []
    for number in range(6):
        shares = rng.uniform(0.1, 0.9, 120)
        rows = pd.DataFrame(
            {
                "request_id": f"r{number}", "cell": np.arange(120), "image_hash": np.arange(120) + 1000 * number,
                "time": pd.Timestamp("2026-11-24", tz="UTC").as_unit("us") + pd.Timedelta(number, "h"),
                "label": np.where(shares > 0.5, "a", "b"), "verdict": "sure", "p_a": shares, "p_b": 1 - shares,
            }
        )  # fmt: skip
        path = tmp_path / "binary" / f"20261124T0{number}0000-3-1-{number}-1a2b3c4d.parquet"
        path.parent.mkdir(exist_ok=True)
        label_queue.write_table(rows, path)
        drawn.append(label_queue.draw_batch(tmp_path, "binary", "3", PRIOR, rng=rng))
    assert [batch.name for batch in label_queue.read_batches(tmp_path, "binary", "3")] == [each.name for each in drawn]
    assert label_queue.newest_batch(tmp_path, "binary").name == drawn[-1].name
