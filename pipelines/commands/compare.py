"""Compare two versions of a task on the same test cells, which neither has seen.

Writes into one folder: `A-B.json` (`pipelines.registry.comparison.Comparison`), `A-B-changed.csv` with all cells whose
predicted class changed, and `A-B.html`, which shows both, with images of such cells.
"""

from pathlib import Path

from fatescope.config import load
from fatescope.data import dataset, tracks
from fatescope.data.splits import load as load_splits
from pipelines.evaluation import drawing
from pipelines.registry import versions
from pipelines.registry.comparison import CHANGES, Comparison, compare
from pipelines.registry.paired import predict_paired
from pipelines.reporting import comparison_page


def main(params: Path, task: str, a: str, b: str, source: Path, parts: Path, target: Path) -> Comparison:
    """Compare the versions `a` and `b` of a task, numbers or aliases, on the same test cells.

    Writes the files of the module into the folder `target`, and returns the content of `A-B.json`.
    """
    drawing.prepare()
    settings, cells, splits = load(params), dataset.load(source), load_splits(parts)
    with versions.download(task, a) as before, versions.download(task, b) as after:
        of_cells = tracks.read(cells, settings.dataset)
        paired = predict_paired(before, after, cells, splits, settings.train.threads, of_cells)
    comparison, changed = compare(task, a, b, paired, cells)
    comparison.write(target / f"{a}-{b}.json")
    changed.drop(columns="row").to_csv(target / f"{a}-{b}-changed.csv", index=False)
    drawn = {kind: comparison_page.draw_changed(cells, changed, kind) for kind in CHANGES}
    figures = {kind: figure for kind, figure in drawn.items() if figure is not None}
    (target / f"{a}-{b}.html").write_text(comparison_page.render(comparison, figures), encoding="utf-8")
    return comparison
