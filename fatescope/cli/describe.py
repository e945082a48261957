"""The command `describe`."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fatescope.cli import console
from fatescope.errors import DataError

if TYPE_CHECKING:
    from fatescope.language.client import Client
    from fatescope.language.culture import Culture


def describe(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SAMPLE",
            help="A folder, zip or .cif of cells, a folder of results of `fatescope score`, or a saved answer (JSON).",
        ),
    ],
    sample: Annotated[str | None, typer.Option(help="Describe this sample alone. [default: each]")] = None,
    task: Annotated[str, typer.Option(help="For cells: the task whose champion classifies them.")] = "",
    model: Annotated[
        Path | None, typer.Option(help="For cells: a bundle folder to use in place of a champion.")
    ] = None,
    template: Annotated[bool, typer.Option("--template", help="Ask no language model, also where one is set.")] = False,
    as_json: console.AsJson = False,
) -> None:
    """Describe cultures in a paragraph each, in which every number is one of the answer's figures.

    FATESCOPE_LANGUAGE_URL and FATESCOPE_LANGUAGE_MODEL name a language model that writes it; it gets figures alone.
    """
    from fatescope.language import describe as language

    cultures = _cultures(source, task, model)
    if sample is not None:
        if sample not in cultures:
            raise DataError(f"--sample {sample}: not in {source}; {_samples(cultures)}")
        cultures = {sample: cultures[sample]}
    if template:
        described = {
            name: language.by_template(culture, "it was asked for") for name, culture in sorted(cultures.items())
        }
    else:
        with _client() as client:
            described = {name: language.describe(culture, client) for name, culture in sorted(cultures.items())}
    if as_json:
        console.print_json([{"sample": name, **asdict(paragraph)} for name, paragraph in described.items()])
        return
    for name, paragraph in described.items():
        if len(described) > 1 or name:
            print(_printable(name) or "files without a folder")
        print(_printable(paragraph.text))
        by = f"Written by {paragraph.model}; each number was checked." if paragraph.source == "model" else (
            f"Written by a template: {paragraph.why}."
        )  # fmt: skip
        print(f"({_printable(by)})\n")


@contextmanager
def _client() -> "Iterator[Client | None]":
    """Yield a client of the endpoint of the environment; None where there is none."""
    from fatescope.language.client import Client
    from fatescope.language.settings import LanguageSettings

    settings = LanguageSettings.read()
    if settings.url is None:
        yield None
        return
    with Client(settings) as client:
        yield client


def _cultures(source: Path, task: str, model: Path | None) -> "dict[str, Culture]":
    """Return sample → its figures."""
    from service.batch import describing

    if source.is_file() and source.suffix.lower() == ".json":
        from service.api import saved_answers

        return saved_answers.cultures(source)
    if describing.is_job(source):
        return describing.cultures(source)
    return _classify(source, task, model)


def _samples(cultures: "Mapping[str, Culture]") -> str:
    """Return what an error says of the samples that there are."""
    names = sorted(filter(None, cultures))
    if not names:
        return "its images are in no folder, and so of one sample without a name; leave --sample out"
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"there are {', '.join(names[:10])}{more}"


def _classify(source: Path, task: str, model: Path | None) -> "dict[str, Culture]":
    """Classify cells, of which nothing is kept."""
    from fatescope.data import archives
    from fatescope.data.native.names import is_native
    from pipelines.ingestion.archive import unpack
    from service.batch import describing, run

    known = "name a folder, a zip or a .cif of cells, results, or a saved answer"
    if not source.exists():
        raise DataError(f"{source}: not there; {known}")
    packed = source.is_file() and source.suffix.lower() == archives.SUFFIX
    if not (packed or source.is_dir() or is_native(source.name)):
        raise DataError(f"{source}: none of what is described; {known}")
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        place = folder / "cells" if packed else source
        if packed:
            place.mkdir()
            unpack(source, place)
        try:
            # What it says of its progress names a folder that is gone by the time anybody could look into it.
            with console.hushed("service.batch.run"):
                run.score(place, folder / "out", task=task, model=model, workers=1, threads=0, ray="", quality=None)
        except DataError as error:
            raise DataError(str(error).replace(str(place), str(source))) from error
        return describing.cultures(folder / "out")


def _printable(text: str) -> str:
    """Return a text without what a terminal would obey: names may hold anything."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
