import pytest

from fatescope.inference import bundle
from tests.support.bundles import CLASSES, COMMITTED


@pytest.mark.parametrize(("task", "classes"), [("binary", CLASSES[:2]), ("multiclass", CLASSES)])
def test_a_bundle_made_before_loads_and_reproduces(task, classes):
    model = bundle.load(COMMITTED / task, threads=1)
    assert model.spec.classes == classes
    assert model.spec.made is None
    model.check()
