"""What the Hugging Face Hub shows of a version, read by its own library."""

from huggingface_hub import parse_eval_result_entries
from ruamel.yaml import YAML

from pipelines.evaluation.metrics_report import Metrics
from pipelines.reporting import hub_results
from pipelines.settings import PipelineSettings
from tests.support import reports


def read(folder):
    return parse_eval_result_entries(YAML(typ="safe").load((folder / hub_results.FILE).read_text()))


def test_the_hub_reads_each_metric_of_each_split_with_its_interval(tmp_path):
    metrics = Metrics.read(reports.METRICS)
    hub_results.write(metrics, "binary", "ab12", "lab/stem-cells", tmp_path)
    found = {entry.task_id: entry for entry in read(tmp_path)}
    assert {entry.dataset_id for entry in found.values()} == {"lab/stem-cells"}
    assert found.keys() == {f"{scheme}_{name}" for scheme in metrics.schemes for name in hub_results.METRICS}
    for scheme, values in metrics.schemes.items():
        entry = found[f"{scheme}_balanced_accuracy"]
        assert entry.value == round(values.balanced_accuracy, 4)
        assert values.describe_interval("balanced_accuracy", "{low:.3f} to {high:.3f}").strip("()") in entry.notes
        assert f"{values.cells} test cells in {values.groups} acquisition groups; data ab12" in entry.notes


def test_a_data_set_that_is_not_on_the_hub_and_a_metric_that_is_not_defined(tmp_path):
    metrics = Metrics.read(reports.METRICS)
    scheme, values = next(iter(metrics.schemes.items()))
    undefined = metrics.model_copy(update={"schemes": {scheme: values.model_copy(update={"mcc": float("nan")})}})
    hub_results.write(undefined, "binary", "ab12", None, tmp_path)
    assert {entry.dataset_id for entry in read(tmp_path)} == {"fatescope-cells/binary"}
    assert f"{scheme}_mcc" not in {entry.task_id for entry in read(tmp_path)}


def test_the_data_set_on_the_hub_is_a_setting(monkeypatch):
    monkeypatch.setenv("FATESCOPE_HUB_DATASET", "lab/stem-cells")
    assert PipelineSettings().hub_dataset == "lab/stem-cells"
