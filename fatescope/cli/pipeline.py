"""Commands that run stages: `repro`, `audit`, `tune`, `held-out`, and `bench`."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from fatescope import plural
from fatescope.cli import console, processes, project
from fatescope.errors import FatescopeError

Task = Annotated[str, typer.Argument(metavar="TASK", help="A task of dataset.tasks, for example binary.")]


def repro(
    stages: Annotated[
        list[str] | None, typer.Argument(metavar="STAGE", help="Stages to end with, such as train@binary.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Write this settings preset into params.yaml first, such as thorough.")
    ] = None,
) -> None:
    """Run every stage that is out of date, with `dvc repro`.

    A stage is out of date where its data, parameters or code have changed since its last run.

    Without cells, the default ones are drawn, or the laboratory's version is pulled.
    """
    project.require()
    if preset is not None:
        project.apply_settings(preset)
    project.fetch_data()
    project.dvc("repro", *(stages or []))
    print(
        "\nResults   reports/TASK/card.html; reports/TASK/metrics.json, plots, search; dvc metrics show\n"
        "Runs      make ui           then http://127.0.0.1:5000\n"
        "Service   fatescope serve   then http://127.0.0.1:3000"
    )


def audit(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="SRC", help="An export: folder, zip, .cif or .rif. [default: the project's cells]"),
    ] = None,
    params: console.ParamsPath = project.PARAMS,
    preset: Annotated[str | None, typer.Option(help="Read the paths of SRC as this preset says.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to keep the report and plots of SRC in; it must not exist.")
    ] = None,
    as_json: console.AsJson = False,
) -> None:
    """Measure what acquisition alone reveals of the class.

    Of the project's cells this brings the stage audit up to date; an export is read into a folder of its own, and
    the project is left as it is.
    """
    if source is None:
        project.require()
        project.fetch_data()
        project.dvc("repro", "audit", quiet=as_json)
        report = json.loads(Path("reports/audit.json").read_text(encoding="utf-8"))
    else:
        if out is not None and out.exists():
            raise FatescopeError(f"{out}: exists already; name another folder, or remove it")
        with TemporaryDirectory(prefix="fatescope-audit-") if out is None else nullcontext(str(out)) as folder:
            report = _audit_export(source, params, preset, Path(folder))
    if as_json:
        console.print_json({"verdict": _verdict(report), **report})
    else:
        _print_verdict(report)


def _audit_export(source: Path, params: Path, preset: str | None, folder: Path) -> dict[str, Any]:
    """Run the stages up to the audit on an export, with everything below `folder`; return the report."""
    from fatescope.config import presets
    from fatescope.data.native.names import is_native
    from pipelines.ingestion.archive import unpack
    from pipelines.ingestion.native_cells import copy_alone
    from pipelines.stages import audit as stage
    from pipelines.stages import ingest, quality, split

    folder.mkdir(parents=True, exist_ok=True)
    used = folder / "params.yaml"
    used.write_bytes(project.read(params))
    if preset is not None:
        presets.apply_preset(used, preset)
    data, cells, splits = source, folder / "cells", folder / "splits.parquet"
    if not source.is_dir():
        data = folder / "data"
        data.mkdir()
        (copy_alone if is_native(source.name) else unpack)(source, data)
    ingest.main(used, data, cells)
    gated = folder / "quality.parquet"
    quality.main(used, cells, gated, folder / "quality.json", folder / "quality")
    split.main(used, cells, splits, gated)
    stage.main(used, cells, splits, folder / "audit.json", folder / "plots")
    content: dict[str, Any] = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    return content


VERDICTS = ("clean", "suspect", "shortcut")
"""From the best to the worst, of a pair of classes."""


def _verdict(report: dict[str, Any]) -> str:
    """Return the worst verdict of all pairs."""
    return max((str(pair["verdict"]) for pair in report["pairs"]), key=VERDICTS.index)


def _print_verdict(report: dict[str, Any]) -> None:
    pairs = plural.count(len(report["pairs"]), "pair of classes", "pairs of classes")
    print(f"{_verdict(report)}: {plural.count(report['cells'], 'cell')}, {pairs}")
    for pair in report["pairs"]:
        evidence = pair["raw"]
        confounded = ", confounded with their groups" if pair["confounded"] else ""
        print(
            f"  {' / '.join(pair['classes'])}: {pair['verdict']}{confounded}; after normalisation "
            f"{pair['verdict_normalised']}; strongest evidence {evidence['description']}, AUC {evidence['value']:.2f} "
            f"({evidence['low']:.2f} to {evidence['high']:.2f})"
        )


def tune(task: Task) -> None:
    """Search for the best settings of a task.

    Continues the study of the stage tune within the budget of the section tune, or joins it where it is running in
    another shell.
    """
    project.require()
    from pipelines.stages import tune as stage

    artifacts, reports = Path("artifacts") / task, Path("reports") / task
    stage.main(
        project.PARAMS, task, project.CELLS, project.SPLITS,
        artifacts / "study.journal", artifacts / "best.json", reports / "search",
    )  # fmt: skip


def held_out(
    task: Task,
    medium: Annotated[str, typer.Argument(metavar="CLASS", help="The class to leave out of training.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the report. [default: reports/TASK/held_out]")] = None,
    as_json: console.AsJson = False,
) -> None:
    """Train without one class, and see what its cells are called."""
    project.require()
    from pipelines.commands import leave_one_class_out

    best = Path("artifacts") / task / "best.json"
    folder = out or Path("reports") / task / "held_out"
    report = leave_one_class_out.main(project.PARAMS, task, medium, project.CELLS, project.SPLITS, best, folder)
    if as_json:
        console.print_json(report.model_dump(mode="json", by_alias=True))
        return
    called = ", ".join(f"{share:.0%} {name}" for name, share in report.called.items())
    print(
        f"{plural.count(report.cells, 'test cell')} of {medium}, a class that the model has not seen: called {called}"
    )
    trained = report.trained.unlike
    print(f"unlike the training cells: {report.unlike:.1%}; of test cells of the other classes {trained:.1%}")


BENCHMARKS = {
    "accuracy": "real cells: malaria by patient, Jurkat by cell-cycle phase",
    "calibration": "whether calibration holds on runs that no network has seen",
    "channels": "what darkfield adds to brightfield on Jurkat cells",
    "drift": "how often drift is reported without drift, and found with it",
    "gpu": "training and inference on a GPU, beside what bounds them",
    "ingest": "reading exports, beside plain loops that decode",
    "labels": "what networks learn from few labels, small images and time",
    "language": "a tiny vision-language model, trained from nothing, beside the CNN",
    "native": "native files of instruments, beside plain loops that decode",
    "quality": "whether gates find junk and spare good cells, on simulated ones",
    "scale": "a million files through scoring and ingest, and every stage on 200,000 and 2,000,000 cells",
    "serving": "the service beside its peers (needs the extra bench)",
    "shadow": "what a challenger in the shadow costs the requests",
    "signing": "signing and verifying a bundle of 100 MB",
    "teaching": "what few labels teach a champion of other cells, beside simple features",
    "tracing": "what traces of requests cost",
    "training": "one fit, beside the usual recipe of torchvision",
    "verdicts": "whether intervals and verdicts keep their word, by simulation",
    "versions": "versions of many small files with DVC",
    "watch": "what recording predictions costs the requests",
}
"""Modules of `benchmarks` → what they measure."""


def bench(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The benchmark; without one, list them.")] = None,
    sets: Annotated[
        Path,
        typer.Option(help="For accuracy, channels, labels and teaching: the folder of malaria.zip and jurkat_ifc.zip."),
    ] = Path("../shared/data"),
    objects: Annotated[int, typer.Option(help="For native: objects of the file that is drawn.", min=1_000)] = 100_000,
    peer_python: Annotated[
        Path | None, typer.Option(help="For native: an interpreter that has python-bioformats, to compare with.")
    ] = None,
    sizes: Annotated[
        tuple[int, int], typer.Option(help="For scale: cells of the two stores on which stages are compared.")
    ] = (200_000, 2_000_000),
    seeds: Annotated[int, typer.Option(min=1, help="For calibration: how many sets of cells are simulated.")] = 20,
    small: Annotated[
        bool,
        typer.Option(
            "--small",
            help="For gpu: check the program on a CPU; nothing is measured. For labels, language, teaching: less.",
        ),
    ] = False,
) -> None:
    """Run a benchmark.

    It prints a table and writes reports/bench/NAME.json.
    """
    if name is None:
        for known, text in BENCHMARKS.items():
            print(f"{known:<11} {text}")
        return
    if name not in BENCHMARKS:
        raise FatescopeError(f"no benchmark '{name}'; there are {', '.join(BENCHMARKS)}")
    if not Path("benchmarks").is_dir():
        raise FatescopeError("benchmarks: not in this folder; run from the folder of the project")
    arguments = {
        "accuracy": ["--sets", str(sets)],
        "channels": ["--sets", str(sets)],
        "teaching": ["--sets", str(sets), *(["--small"] if small else [])],
        "calibration": ["--seeds", str(seeds)],
        "gpu": ["--small"] if small else [],
        "labels": ["--sets", str(sets), *(["--small"] if small else [])],
        "language": ["--small"] if small else [],
        "native": ["--objects", str(objects), *(["--peer-python", str(peer_python)] if peer_python else [])],
        "scale": ["--sizes", *map(str, sizes)],
    }
    raise typer.Exit(processes.foreground([sys.executable, "-m", f"benchmarks.{name}", *arguments.get(name, [])]))
