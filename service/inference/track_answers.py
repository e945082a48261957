"""The answers for cells of which a request has several images over time (`fatescope.inference.track_evidence`).

Names of files say which images are of one cell, as those of the training data did. The page tells it of several
requests, `service/page/tracks.js`; `tests/page/tracks.json` holds both to the same answers.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fatescope.config import Dataset
from fatescope.data.native.names import is_native
from fatescope.data.paths import PathParser
from fatescope.data.tracks import frame_of
from fatescope.errors import DataError
from fatescope.inference.spec import Spec
from fatescope.inference.track_evidence import TrackEvidence, answer_track
from fatescope.inference.uncertainty import UNLIKE, Assessment
from service.inference.quality import Reasons
from service.inference.results import CellDict, TrackDict, TrackFrameDict

_Key = tuple[str | None, str, str]
"""Sample, acquisition group and track: a name that two samples have is of two cells."""


def answer_tracks(cells: Sequence[CellDict], spec: Spec, parser: PathParser) -> list[TrackDict]:
    """Return the answer for each cell that has several images among the results `cells`; empty for other models.

    An image whose name spells no track, or a time that is no number, is answered alone.
    """
    if spec.tracks is None:
        return []
    dataset = Dataset.read(spec.params["dataset"])
    images: dict[_Key, list[tuple[float, CellDict]]] = {}
    for cell in cells:
        if "label" in cell and (frame := _read(cell["file"], dataset, parser)):
            group, track, time = frame
            images.setdefault((cell["sample"], group, track), []).append((time, cell))
    return [_answer(key, its, spec, spec.tracks) for key, its in images.items() if len(its) > 1]


def count_once(
    assessment: Assessment, tracks: Sequence[TrackDict], ids: Sequence[str], judged: Sequence[Reasons]
) -> tuple[Assessment, npt.NDArray[np.bool_]]:
    """Return the assessment of n images, with that of each track in one of its rows, and which (n,) rows count.

    `ids` name the answers of the images, and `judged` says why they are outside the gates of quality. A track is in the
    row of its last image inside them, so that it is left out only where all its images would be.
    """
    rows = {name: row for row, name in enumerate(ids)}
    probabilities, verdicts = assessment.probabilities.copy(), assessment.verdicts.copy()
    counted = np.ones(len(ids), bool)
    for track in tracks:
        its = [rows[frame["id"]] for frame in track["frames"]]
        kept = next((row for row in reversed(its) if not judged[row]), its[-1])
        counted[its] = False
        counted[kept] = True
        probabilities[kept] = list(track["frames"][-1]["probabilities"].values())
        verdicts[kept] = track["verdict"]
    return replace(assessment, probabilities=probabilities, verdicts=verdicts), counted


def _read(name: str, dataset: Dataset, parser: PathParser) -> tuple[str, str, float] | None:
    # A cytometer sees a cell once: the objects of a native file are different cells, whatever its name says.
    parsed = None if is_native(name) else parser.read(name)
    try:
        frame = frame_of(parsed.facts, dataset) if parsed else None
    except DataError:
        return None
    return (parsed.group, *frame) if parsed and frame else None


def _answer(key: _Key, images: list[tuple[float, CellDict]], spec: Spec, how: TrackEvidence) -> TrackDict:
    # Files come in any order; two images of one time are in that of their names.
    images = sorted(images, key=lambda image: (image[0], image[1]["file"]))
    probabilities = np.array([[cell["probabilities"][name] for name in spec.classes] for _, cell in images])
    counts = np.array([cell["verdict"] != UNLIKE for _, cell in images])
    answer = answer_track(probabilities, counts, np.array(spec.prior), how, spec.coverage)
    frames: list[TrackFrameDict] = [
        {
            "id": cell["id"],
            "time": time,
            "counts": counted,
            "probabilities": dict(zip(spec.classes, after, strict=True)),
        }
        for (time, cell), counted, after in zip(images, counts.tolist(), answer.probabilities.tolist(), strict=True)
    ]
    sample, group, track = key
    return {
        "sample": sample,
        "group": group,
        "track": track,
        "label": spec.classes[answer.best],
        "verdict": answer.verdict,
        "since": answer.since,
        "sure_since": answer.sure_since,
        "frames": frames,
    }
