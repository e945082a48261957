"""From a native file to the alarm: ingest, reference, records of the service, and what the detector says of them."""

import io

import numpy as np
import pandas as pd
import pytest

from fatescope.data import dataset
from fatescope.inference import bundle
from monitoring.drift import Detector
from monitoring.sources import fetch_models, fetch_reference, read_newest
from pipelines.stages import ingest as stage
from tests.support import native
from tests.support.bundles import copy_bundle
from tests.support.images import tiff, typical
from tests.support.in_process import application, connected
from tests.support.params import write_params

RUNS = {"a_1d1": (20, 0.50), "a_1d2": (60, 0.51), "o_3d1": (20, 0.49), "o_3d2": (60, 0.50)}
"""Native files of the training data → magnification, and power of the lamp, W."""
OF_EXPORT = [(33003, "I", 1, 17, True), (33016, "I", 1, 1234567, True), (33012, "d", 1, 22.5, True)]
"""Tags of an image that IDEAS exported: object number, line of the camera, flow speed."""
FACTS = {
    "native_instrument", "native_software", "native_magnification", "native_brightfield_power_w", "native_flow_speed",
    "native_background_mean", "native_background_mean_1",
}  # fmt: skip


def cif(run, magnification, power, objects=range(40)):
    drawn = [(typical(i)[None], np.zeros((1, 45, 60), np.uint8)) for i in objects]
    xml = native.acquisition_xml(power=power, magnification=magnification)
    return native.native(drawn, xml=xml, runs=(run,))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Return a folder with a model whose reference was made from native files."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "data").mkdir()
    for i, (run, acquired) in enumerate(RUNS.items()):
        (folder / "data" / f"{run}.cif").write_bytes(cif(run, *acquired, range(100 * i, 100 * i + 30)))
    params = stage.load(write_params(folder))
    stage.ingest(params.dataset, params.ingest, folder / "data", folder / "cells")
    cells = dataset.load(folder / "cells")
    model = folder / "bundles" / "binary"
    copy_bundle(model, "binary")
    known = bundle.load(model, threads=1)
    reference = bundle.build_reference(
        cells.manifest, [known.predict(np.asarray(cells.pixels))], known.spec, known.outliers
    )
    assert set(reference.columns) & FACTS == FACTS - {"native_background_mean_1"}, "that is the brightfield's"
    assert not {name for name in reference.columns if name.startswith("native_")} - FACTS
    reference.to_parquet(model / bundle.REFERENCE, index=False)
    bundle.finalize(model, known.spec)
    return folder / "bundles"


@pytest.fixture(scope="module")
def served(bundles, tmp_path_factory):
    """Return the reference that a service gives, and name → records of a request, and all of them as monitoring reads.

    Each is a file of its own, as of another ten seconds.
    """
    folder, tables = tmp_path_factory.mktemp("served"), {}
    other = cif("new", 40, 0.5, range(500, 540))
    exported = [(f"{i}.ome.tif", tiff(typical(i), extratags=OF_EXPORT)) for i in range(40)]
    requests = {
        "before": ("batch", [("files", (f"{i}.tif", tiff(typical(i)))) for i in range(40)]),
        "same": ("batch", [("files", ("new.cif", cif("new", 20, 0.5, range(500, 540))))]),
        "magnification": ("batch", [("files", ("new.cif", other))]),
        "slices": (f"slices?offset=0&size={len(other)}&name=new.cif", [("slices", other)]),
        "power": ("batch", [("files", ("new.cif", cif("new", 20, 0.9, range(500, 540))))]),
        "exported": ("batch", [("files", file) for file in exported]),
        "one": ("", [("image", exported[0])]),
    }
    for name, (path, files) in requests.items():
        with application(folder, bundles) as app, connected(app) as client:
            answer = client.post(f"/classify{path and '_'}{path}", files=files).raise_for_status()
            [model], reference = fetch_models(client), fetch_reference(client, "binary")
        written = [pd.read_parquet(each) for each in (folder / "records").glob("binary/*.parquet")]
        [tables[name]] = [table for table in written if answer.headers["X-Request-ID"] in set(table["request_id"])]
    return reference, tables, read_newest(folder / "records", model, 1000)


@pytest.fixture(scope="module")
def detector(served):
    return Detector(served[0])


def found(detector, window):
    """Return the words of the facts that raise an alarm about a window."""
    report = detector.evaluate(window)
    return [finding.words for finding in report.input_drift if finding.statistic.startswith("fact_")]


@pytest.mark.slow
def test_the_same_settings_are_quiet_and_others_are_told_in_words(served, detector):
    _, tables, _ = served
    assert found(detector, tables["same"]) == []
    assert found(detector, tables["magnification"]) == ["magnification 40x, known: 20x, 60x"]
    assert found(detector, tables["slices"]) == ["magnification 40x, known: 20x, 60x"]
    assert found(detector, tables["power"]) == ["brightfield power 0.9 W, known: 0.49 to 0.51 W"]
    judged = {finding.statistic for finding in detector.evaluate(tables["exported"]).findings}
    assert {name for name in judged if name.startswith("fact_")} == {"fact_flow_speed"}
    assert found(detector, tables["exported"]) == []


@pytest.mark.slow
def test_records_have_what_their_files_say_and_no_more(served):
    _, tables, everything = served
    natives = {name: {column for column in table if column.startswith("native_")} for name, table in tables.items()}
    assert natives["before"] == set(), "plain images say nothing"
    assert natives["exported"] == natives["one"] == {"native_flow_speed"}
    assert natives["same"] == natives["slices"] == natives["power"] == FACTS
    table = tables["magnification"]
    assert table["native_magnification"].unique().tolist() == [40.0]
    assert table["native_instrument"].unique().tolist() == ["IS100-Lab"]
    assert table["native_flow_speed"].unique().tolist() == [22.5]
    assert table["native_background_mean"].between(600, 800).all()
    assert tables["power"]["native_brightfield_power_w"].unique().tolist() == [0.9]
    written = everything.to_csv()
    for telling in (native.NAME_OF_A_PERSON, "5/2/2016", "new.cif", "1234567", "ome.tif"):
        assert telling not in written
    assert len(everything) == 241
    assert everything["native_magnification"].notna().sum() == 160


@pytest.mark.slow
def test_records_and_references_of_before_are_compared_as_before(served, detector):
    reference, tables, _ = served
    assert found(detector, tables["before"]) == []
    old = reference[[name for name in reference.columns if not name.startswith("native_")]]
    buffer = io.BytesIO()
    pd.DataFrame(old.to_dict("list")).to_parquet(buffer)
    of_before = Detector(pd.read_parquet(buffer))
    statistics = [finding.statistic for finding in of_before.evaluate(tables["magnification"]).findings]
    assert not [name for name in statistics if name.startswith("fact_")]
    plain = of_before.evaluate(tables["before"])
    assert plain.findings == detector.evaluate(tables["before"]).findings


@pytest.mark.slow
def test_the_reference_says_what_all_runs_had(served):
    reference, _, _ = served
    assert reference.attrs["known_facts"] == {
        "instrument": ["IS100-Lab"],
        "software": ["6.0.354.0"],
        "magnification": [20.0, 60.0],
        "brightfield_power_w": [0.49, 0.51],
        "flow_speed": [22.5, 22.5],
        "background_mean": reference.attrs["known_facts"]["background_mean"],
    }
