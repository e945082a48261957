"""How close two engines come."""

import numpy as np


def assert_agree(prediction, expected, relative=5e-5):
    """Assert that two predictions differ by no more than float32 on another CPU explains, relative to their size."""
    for field in ("logits", "embedding", "activation_map"):
        values = getattr(expected, field)
        # Sums of many terms cancel: an element near zero has the error of the largest.
        tolerance = relative * np.abs(values).max()
        np.testing.assert_allclose(getattr(prediction, field), values, rtol=0, atol=tolerance, err_msg=field)
