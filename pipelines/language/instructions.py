r"""Instruction pairs of labelled cells: what LLaVA's own tools take.

`train.jsonl`, `validation.jsonl` and `test.jsonl` have one cell a line, in the form of LLaVA (Liu et al. 2023):
`{"id": …, "image": "images/….png", "conversations": [{"from": "human", "value": "<image>\n…"}, {"from": "gpt", …}]}`,
one question and its answer after the other. `facts.json` has the scale of the words and the facts of each cell, from
which answers are judged. No answer says more than what is measured (`pipelines.language.facts`).

Images are PNG as `pipelines.language.pictures` draws them.
"""

import json
from pathlib import Path

from fatescope.config import Params
from fatescope.data import dataset, splits, tracks
from fatescope.data.dataset import CellDataset
from fatescope.errors import DataError
from pipelines.evaluation.report import Report
from pipelines.language import answers, facts, pictures, prompt
from pipelines.language.facts import Facts, Scale

PARTS = ("train", "validation", "test")
IMAGES, FACTS = "images", "facts.json"


class Instructions(Report):
    """The content of `facts.json`."""

    task: str
    scheme: str
    classes: list[str]
    simulated: bool
    scale: Scale
    rows: dict[str, list[int]]
    """Part → rows of the manifest, in the order of its file."""
    facts: dict[str, list[Facts]]
    """Part → facts of the cells in these rows."""
    tracks: dict[str, list[int]] | None
    """Part → numbers that are equal for images of one cell over time; null where each row is of another cell."""


def write(
    params: Params, source: Path, parts: Path, task: str, folder: Path, *, scheme: str, pixel_size_um: float | None
) -> Instructions:
    """Write the pairs and images of the cells of a task in `source`, divided as in the file `parts`, to `folder`.

    Raises DataError where `folder` has files already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder}: is not empty; name another folder, or remove it")
    cells, classes = dataset.load(source), params.classes(task)
    divided = splits.load(parts)
    rows = {part: divided.indices(scheme, part, classes) for part in PARTS}
    of_cells = tracks.read(cells, params.dataset)
    scale, known = facts.measure(cells, rows, pixel_size_um, params.evaluate.seed)
    written = Instructions(
        task=task,
        scheme=scheme,
        classes=classes,
        simulated=_is_simulated(source),
        scale=scale,
        rows={part: of_part.tolist() for part, of_part in rows.items()},
        facts=known,
        tracks=of_cells and {part: of_cells.keys[of_part].tolist() for part, of_part in rows.items()},
    )
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        _write_part(written, part, cells, folder)
    written.write(folder / FACTS)
    return written


def _write_part(written: Instructions, part: str, cells: CellDataset, folder: Path) -> None:
    with (folder / f"{part}.jsonl").open("w", encoding="utf-8") as file:
        for row, known in zip(written.rows[part], written.facts[part], strict=True):
            name = f"{IMAGES}/{row}.png"
            pictures.draw(cells.pixels[row]).save(folder / name)
            turns = converse(known, written.scale, written.classes)
            file.write(json.dumps({"id": str(row), "image": name, "conversations": turns}, ensure_ascii=False) + "\n")


def converse(known: Facts, scale: Scale, classes: list[str]) -> list[dict[str, str]]:
    """Return the questions about a cell and the answers of its facts, in turn."""
    turns: list[dict[str, str]] = []
    for topic in prompt.TOPICS:
        text = prompt.question(topic, classes)
        turns += [
            {"from": "human", "value": text if turns else f"{prompt.IMAGE}\n{text}"},
            {"from": "gpt", "value": answers.write(topic, known, scale)},
        ]
    return turns


def _is_simulated(source: Path) -> bool:
    origin = dataset.load_summary(source).get("origin")
    return isinstance(origin, dict) and origin.get("origin") == "simulated"
