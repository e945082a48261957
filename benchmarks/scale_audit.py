"""Time of the audit of many classes, for `benchmarks.scale`: 4,000 simulated cells whose groups are dealt to nine."""

import json
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.report import Figure
from fatescope import config
from fatescope.data import dataset
from pipelines.commands import simulate
from pipelines.stages import audit, ingest

CELLS, CLASSES = 4_000, 9
LONGEST_S = 60


def figures(cells: int = CELLS, classes: int = CLASSES) -> list[Figure]:
    """Return how long the audit of one task takes, with the start of the processes in which it works."""
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
        folder, drawn = Path(name), {"cells": cells, "marker_channels": 0, "darkfield": False}
        content = json.loads(config.load(Path("params.yaml")).model_dump_json(by_alias=True))
        content["simulate"] |= drawn
        (folder / "params.yaml").write_text(json.dumps(content))
        settings = config.load(folder / "params.yaml")
        simulate.simulate(settings.simulate, folder / "data")
        ingest.main(folder / "params.yaml", folder / "data", folder / "cells")
        source = dataset.load(folder / "cells")
        # Each group is of one class, as in a real set; the class of a cell means nothing.
        groups = source.manifest["group"].to_numpy(str)
        source.manifest["label"] = [f"class {place % classes}" for place in np.unique(groups, return_inverse=True)[1]]
        nine = settings.dataset.model_copy(update={"tasks": {"all": [f"class {i}" for i in range(classes)]}})
        start = time.perf_counter()
        report = audit.audit(source, {}, nine, settings.train.normalisation, settings.audit)
        seconds = time.perf_counter() - start
    what = f"audit of {report.cells:,} cells of {classes} classes"
    return [
        Figure(f"{what}, seconds", seconds, f"<= {LONGEST_S}"),
        Figure(f"{what}, pairs of classes", len(report.pairs)),
    ]
