"""Names in MLflow: one for each metric, and the way back."""

import pytest
from mlflow.utils.validation import _validate_metric_name

from fatescope.model_registry import MAX_KEY, metric_key, metric_name

KEPT = ["schemes.grouped.recall.RA/SHH", "recall.NT3", "recall.Zelle ä", "recall.1.10", "best", "recall.a-b_c"]
ESCAPED = {
    "recall.CD4+": "recall.CD4:2b:",
    "recall.CD4-": "recall.CD4-",
    "recall.CD4_": "recall.CD4_",
    "recall.a//b": "recall.a:2f::2f:b",
    "recall.a/": "recall.a:2f:",
    "recall.a/./b": "recall.a:2f:.:2f:b",
    "/recall": ":2f:recall",
    "..": ":2e::2e:",
    "recall.a:b": "recall.a:3a:b",
    "recall.a:2b:": "recall.a:3a:2b:3a:",
    "recall.e\u0301": "recall.e:301:",
    "recall.\U0001f9ea": "recall.:1f9ea:",
}


@pytest.mark.parametrize(("name", "key"), [*((name, name) for name in KEPT), *ESCAPED.items()])
def test_a_key_is_one_that_mlflow_takes_and_leads_back_to_the_name(name, key):
    assert metric_key(name) == key
    assert metric_name(key) == name
    _validate_metric_name(key)


def test_long_names_have_keys_of_their_own():
    one, other = (metric_key("recall." + "+" * 100 + end) for end in "ab")
    assert one != other
    assert len(one) == len(other) == MAX_KEY
    _validate_metric_name(one)
