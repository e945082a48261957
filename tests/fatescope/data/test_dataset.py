import numpy as np
import pandas as pd
import pytest

from fatescope.data.dataset import class_indices


@pytest.mark.parametrize("dtype", ["str", "object", "category"])
def test_labels_are_numbered_and_other_classes_are_not(dtype):
    labels = pd.Series(["b", "a", "c", None, "b"], dtype=dtype)
    indices = class_indices(labels, ["a", "b"])
    assert indices.tolist() == [1, 0, -1, -1, 1]
    assert indices.dtype == np.int64
