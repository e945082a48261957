"""The rows of the prediction log: one for each cell of the requests that were answered."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fatescope.data import cell_facts, features
from fatescope.data.cell_facts import Column
from fatescope.data.crops import Pixels
from fatescope.inference.uncertainty import Assessment
from service.inference.decoded_cell import DecodedCell
from service.inference.recorded_cells import Described
from service.inference.runner_output import RunnerOutput
from service.inference.served_model import ServedModel

Version = tuple[str, str]
"""A task, and a version of its model."""
Describe = Callable[[list[Pixels], list[int]], Described]
"""Returns what `recorded_cells.describe` does."""


@dataclass(frozen=True)
class Entry:
    """Some cells of a request that were classified in one call to the runner."""

    time: float
    """Seconds since the epoch."""
    request_id: str
    model: ServedModel
    cells: list[DecodedCell]
    output: RunnerOutput
    assessment: Assessment
    key: str
    """Name of the API key; empty where none is asked for."""
    numbers: Sequence[int]


def by_version(entries: list[Entry]) -> dict[Version, list[Entry]]:
    """Return the entries of each version: two may answer at the same time, and have different columns."""
    groups = defaultdict(list)
    for entry in entries:
        groups[entry.model.spec.task, entry.model.champion.version].append(entry)
    return groups


def tabulate(entries: list[Entry], describe: Describe) -> pa.Table:
    """Return the rows of the entries of one version, with the columns that `prediction_log` names."""
    spec = entries[0].model.spec
    cells = [cell for entry in entries for cell in entry.cells]
    sizes = [len(entry.cells) for entry in entries]
    components = RunnerOutput.concatenate([entry.output for entry in entries]).components
    assessment = Assessment.concatenate([entry.assessment for entry in entries])
    microseconds = (np.repeat([entry.time for entry in entries], sizes) * 1e6).astype(np.int64)
    hashes, figures = describe([cell.native for cell in cells], [cell.bit_depth for cell in cells])
    columns: dict[str, pa.Array | npt.NDArray[np.generic] | list[str] | Column] = {
        "time": pa.array(microseconds, pa.timestamp("us", tz="UTC")),
        "request_id": np.repeat([entry.request_id for entry in entries], sizes),
        "key": np.repeat([entry.key for entry in entries], sizes),
        "cell": np.array([number for entry in entries for number in entry.numbers], np.int32),
        "image_hash": hashes,
        "version": [entries[0].model.champion.version] * len(cells),
        "label": np.array(spec.classes)[assessment.probabilities.argmax(1)],
        "verdict": assessment.verdicts,
        "distance": assessment.distance,
        "height": np.array([cell.size[0] for cell in cells], np.int32),
        "width": np.array([cell.size[1] for cell in cells], np.int32),
        "bit_depth": np.array([cell.bit_depth for cell in cells], np.int32),
        **{name: figures[:, i] for i, name in enumerate(features.acquisition_names(spec.inputs))},
        **{f"e{i}": components[:, i] for i in range(components.shape[1])},
        **{f"p_{name}": assessment.probabilities[:, i] for i, name in enumerate(spec.classes)},
        **cell_facts.tabulate([cell.facts for cell in cells]),
    }
    return pa.table(columns)
