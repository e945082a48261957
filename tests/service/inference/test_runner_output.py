import dataclasses

import numpy as np

from fatescope.inference import bundle
from service.inference.runner_output import RunnerOutput
from tests.support.bundles import CANVAS, COMMITTED
from tests.support.images import draw_cell

PIXELS = np.stack([draw_cell(np.random.default_rng(seed), *CANVAS) for seed in range(5)])


def test_what_crosses_the_connection_gives_the_assessment_of_the_bundle():
    model = bundle.load(COMMITTED / "binary", threads=1)
    prediction = model.predict(PIXELS)
    packed = RunnerOutput.from_prediction(prediction, model).pack()
    assert (packed.dtype, packed.shape) == (np.float32, (5, 2 + 1 + bundle.COMPONENTS))
    assessment = RunnerOutput.unpack(packed, classes=2).assess(model.spec)
    for field in dataclasses.fields(assessment):
        expected = getattr(model.assess(prediction), field.name)
        np.testing.assert_array_equal(getattr(assessment, field.name), expected, err_msg=field.name)


def test_unpacking_copies_nothing_and_reverses_packing():
    rng = np.random.default_rng(0)
    output = RunnerOutput(*(rng.normal(size=size).astype(np.float32) for size in ((7, 3), (7,), (7, 8))))
    packed = output.pack()
    again = RunnerOutput.unpack(packed, classes=3)
    joined = RunnerOutput.concatenate([RunnerOutput.unpack(packed[:2], 3), RunnerOutput.unpack(packed[2:], 3)])
    for field in ("logits", "distance", "components"):
        np.testing.assert_array_equal(getattr(again, field), getattr(output, field))
        np.testing.assert_array_equal(getattr(joined, field), getattr(output, field))
        assert np.shares_memory(getattr(again, field), packed)
