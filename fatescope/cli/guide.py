"""The guided part of `fatescope data import`: propose what params.yaml should say of an export, and ask."""

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import typer

from fatescope import config, plural
from fatescope.cli import console, project
from fatescope.config import Dataset, editing
from fatescope.data.export_folder import list_files
from fatescope.data.paths import PathParser
from fatescope.data.sidecar import Labels
from fatescope.errors import FatescopeError
from pipelines.ingestion.origin import is_simulated
from pipelines.ingestion.proposal.describe import describe
from pipelines.ingestion.proposal.exports import open_export
from pipelines.ingestion.proposal.layout import is_image
from pipelines.ingestion.proposal.plan import Plan, plan
from pipelines.ingestion.proposal.propose import Proposal
from pipelines.ingestion.proposal.wishes import Wishes
from pipelines.ingestion.survey import survey

NOT_WRITTEN = 3
"""Exit code where a proposal was made and nobody said yes."""


@dataclass(frozen=True)
class Asked:
    """What the options of an import say."""

    wishes: Wishes
    propose: bool
    """Whether a proposal is wanted even where the present section reads the export."""
    yes: bool
    as_json: bool

    @property
    def wants_a_proposal(self) -> bool:
        """Return whether an option asks for one."""
        return self.propose or self.wishes != Wishes()


def prepare(source: Path, asked: Asked) -> Labels:
    """Make params.yaml read the export `source`, after a yes, and return what a sheet says of its images.

    Ends the command where nobody says yes. Raises FatescopeError where no proposal can be made.
    """
    params = config.load(project.PARAMS)
    with open_export(source) as export:
        if export is None or not (export.images or export.natives):
            # The import says what it is.
            return {}
        made = plan(export, params, asked.wishes, _known_cells(params.dataset), forced=asked.propose)
    if made.proposal is None:
        _tell_foreseen(made, asked)
        return made.labels
    _check_known_cells(config.load(project.PARAMS).dataset, made.proposal)
    _show(made.proposal, asked)
    if not (asked.yes or _agrees()):
        print("nothing was changed; to write this and import, answer yes, or run again with --yes", file=sys.stderr)
        raise typer.Exit(NOT_WRITTEN)
    editing.set_fields(project.PARAMS, made.proposal.values)
    return made.labels


def _tell_foreseen(made: Plan, asked: Asked) -> None:
    """Say what later stages will refuse by the present settings, or set it right where yes was said."""
    for line in made.foreseen:
        print(f"{line}{' (set now)' if asked.yes else ''}", file=sys.stderr)
    if made.foreseen and asked.yes:
        editing.set_fields(project.PARAMS, made.values)
    elif made.foreseen:
        print("set it in params.yaml, or import with --yes, which does", file=sys.stderr)


def _known_cells(dataset: Dataset) -> Counter[str]:
    """Return class → real cells that are in the data folder already."""
    counts = Counter[str]()
    if project.DATA.is_dir() and not is_simulated(project.DATA):
        for (label, _), cells in survey(dataset, project.DATA).cells.items():
            counts[label] += cells
    return counts


def _check_known_cells(present: Dataset, proposal: Proposal) -> None:
    """Raise FatescopeError where real cells are in the data folder that the proposed section would not read."""
    if not project.DATA.is_dir() or is_simulated(project.DATA):
        return
    proposed = editing.preview(project.PARAMS, proposal.values).dataset
    before, after = PathParser(present), PathParser(proposed)
    images = filter(is_image, list_files(project.DATA))
    lost = [path for path in images if before.read(path) and not after.read(path)]
    if lost:
        raise FatescopeError(
            f"{project.DATA} has {plural.count(len(lost), 'image')}, such as {lost[0]}, that the present "
            f"dataset.pattern reads and the proposed one ({proposed.pattern}) does not; give the new export the names "
            "of the old one, or a project of its own"
        )


def _show(proposal: Proposal, asked: Asked) -> None:
    if asked.as_json and asked.yes:
        return
    if asked.as_json:
        console.print_json(
            {
                "proposal": proposal.values,
                "found": proposal.sure,
                "decide": proposal.decide,
                "cells": proposal.classes,
            }
        )
        return
    print(describe(proposal, project.PARAMS.read_text(encoding="utf-8")), flush=True)


def _agrees() -> bool:
    if not sys.stdin.isatty():
        return False
    try:
        return input("\nWrite this into params.yaml, and import? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
