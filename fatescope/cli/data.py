"""`fatescope data`: cells for a project."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fatescope.cli import console, project

if TYPE_CHECKING:
    from pipelines.ingestion.survey import ExportSurvey

data = console.group(
    "Cells for a project: draw them, or import an export.",
    "fatescope data import export.zip",
    "fatescope data simulate --out drawn",
)


@data.command(
    epilog=console.examples(
        "fatescope data simulate --out drawn", "fatescope data simulate --out lamp --cells 400 --shortcut 0.5"
    )
)
def simulate(
    out: Annotated[Path, typer.Option(help="The folder to write, which must be new or empty.")],
    params: console.ParamsPath = project.PARAMS,
    cells: Annotated[int | None, typer.Option(help="Number of cells. [default: simulate.cells]", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all that is drawn. [default: simulate.seed]")] = None,
    junk: Annotated[
        float | None, typer.Option(help="Share of images without a good cell. [default: simulate.junk]", min=0, max=1)
    ] = None,
    shortcut: Annotated[
        float | None,
        typer.Option(help="How strongly the lamp follows the medium. [default: simulate.shortcut]", min=0, max=1),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="Images of each cell over time. [default: simulate.frames]", min=1)
    ] = None,
) -> None:
    """Draw cells as an imaging flow cytometer exports them."""
    from fatescope import config
    from pipelines.commands import simulate as command

    settings = config.load(params).simulate
    given = {"cells": cells, "seed": seed, "shortcut": shortcut, "junk": junk, "frames": frames}
    changes = {name: value for name, value in given.items() if value is not None}
    # Through JSON, so that the changes are checked as the file is.
    changed = settings.model_validate_json(json.dumps(settings.model_dump(mode="json") | changes))
    command.simulate(changed, out)


@data.command(
    "import",
    epilog=console.examples(
        "fatescope data import export.zip",
        "fatescope data import export --yes",
        "fatescope data import plate7 --sheet plate7.csv --label medium --yes",
    ),
)
def import_data(  # noqa: PLR0913, PLR0917  each is an option of the command
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The export: a folder, a zip, or a .cif or .rif.")],
    preset: Annotated[
        str | None, typer.Option(help="Set dataset in params.yaml for a known export first; see `data presets`.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Write what is proposed without a question.")] = False,
    propose: Annotated[
        bool,
        typer.Option("--propose", help="Propose the section dataset, even where the present one reads the export."),
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option(help="A table (CSV) that says what each sample is, where none is in the export.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="What is the class: a part of the paths, one of its values, or a column.")
    ] = None,
    channel: Annotated[str | None, typer.Option(help="The channel that the model sees.")] = None,
    as_json: console.AsJson = False,
) -> None:
    """Import an export, and make a version of the data.

    Where the section dataset of params.yaml reads the export, it stays as it is. Otherwise names, headers and some
    images are looked at, and what the section should say is proposed, and written after a yes. Where nobody can be
    asked, and --yes is not given, the proposal is printed, nothing is changed, and the exit code is 3.

    Prints how dataset.pattern reads the paths, and why not where it does not. Simulated cells are replaced, real ones
    are added to.
    """
    from fatescope import config
    from fatescope.cli import guide
    from fatescope.config import presets
    from pipelines.commands import import_data as command
    from pipelines.ingestion.proposal.wishes import Wishes
    from pipelines.ingestion.survey import describe

    project.require()
    if preset is not None:
        presets.apply_preset(project.PARAMS, preset)
    # A version made without the cells of the last one would drop them.
    if not project.DATA.is_dir() and project.DATA_VERSION.exists() and not project.data_is_drawn():
        project.dvc("pull", str(project.DATA_VERSION), quiet=as_json)
    asked = guide.Asked(Wishes(label, channel, sheet), propose, yes, as_json)
    labels = guide.prepare(source, asked) if preset is None or asked.wants_a_proposal else {}
    dataset = config.load(project.PARAMS).dataset
    survey = command.import_export(dataset, source, project.DATA, labels)
    project.add_version()
    if as_json:
        console.print_json(_as_json(survey))
        return
    print(describe(dataset, survey))
    print("\nTo keep this version of the data:\n  git add data.dvc params.yaml")
    print(f"  git commit -m 'Import {source.name}'")


def _as_json(survey: "ExportSurvey") -> dict[str, object]:
    """Return what `import --json` prints of the cells that the paths of an export name."""
    classes: dict[str, int] = {}
    for (name, _), count in survey.cells.items():
        classes[name] = classes.get(name, 0) + count
    return {
        "cells": classes,
        "groups": len({group for _, group in survey.cells}),
        "channels": dict(survey.channels),
        "unlisted": dict(survey.unlisted),
        "unmatched": len(survey.unmatched),
        "refused": len(survey.refused),
        "untagged": survey.untagged,
    }


@data.command(epilog=console.examples("fatescope data fetch"))
def fetch() -> None:
    """Get the project's cells.

    Draws the default ones, or pulls the laboratory's version with DVC; what is there already stays.
    """
    project.require()
    project.fetch_data()


@data.command("presets", epilog=console.examples("fatescope data presets", "fatescope data presets ideas"))
def list_presets(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print what this preset sets.")] = None,
    as_json: console.AsJson = False,
) -> None:
    """List the presets of params.yaml, or print one.

    A data preset sets `dataset` for a known export, a settings preset what a search and training cost.
    """
    from fatescope.config import presets

    chosen = [presets.get_preset(name)] if name else presets.list_presets()
    if as_json:
        entries = [{"name": one.name, "kind": one.kind, "title": one.title, "values": one.values()} for one in chosen]
        console.print_json(entries)
    elif name:
        print(chosen[0].path.read_text(encoding="utf-8"), end="")
    else:
        for one in chosen:
            print(f"{one.kind:<9} {one.name:<12} {one.title}")
