import numpy as np
import pandas as pd
import pytest

from fatescope.data.crops import center
from fatescope.data.dataset import crop
from fatescope.errors import ImageError
from pipelines.evaluation import predict


def test_another_canvas_is_as_if_cells_had_been_ingested_on_to_it(rng):
    native = [rng.integers(0, 4000, size).astype(np.uint16) for size in ((20, 31), (25, 24))]
    manifest = pd.DataFrame({"cell_id": ["a", "b"], "height": [20, 25], "width": [31, 24]})
    on = {size: np.stack([center(each, size, "x") for each in native]) for size in ((40, 50), (33, 36))}
    np.testing.assert_array_equal(predict.recanvas(on[40, 50], manifest, (33, 36)), on[33, 36])
    assert predict.recanvas(on[40, 50], manifest, (40, 50)) is on[40, 50]
    for image, expected in zip(on[40, 50], native, strict=True):
        np.testing.assert_array_equal(crop(image, *expected.shape), expected)
    with pytest.raises(ImageError, match="a: "):
        predict.recanvas(on[40, 50], manifest, (33, 30))
