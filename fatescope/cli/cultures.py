"""The command `cultures`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fatescope.cli import console


def cultures(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of results of `fatescope score`.")],
    table: Annotated[
        Path | None,
        typer.Option(
            "--plate-map",
            help="A CSV file with a column `well` or `sample`, and `condition`, `replicate`, `day`, `dose` or `donor`; "
            "without it, roles are read from the names of folders.",
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="The condition that others are compared with. [default: the first]")
    ] = None,
    as_json: console.AsJson = False,
) -> None:
    """Say from replicates how the cultures of conditions differ.

    A sample is a folder of the source, or a .cif or .rif.
    """
    from service.batch import cultures as batch

    compared = batch.compare(out, table, reference)
    if as_json:
        rows = [
            {"class": row.name, **{key: value for key, value in asdict(row).items() if key not in {"name", "estimate"}}}
            | asdict(row.estimate)
            | {"differs": row.estimate.differs}
            for row in compared.differences
        ]
        console.print_json({"reference": compared.reference, "differences": rows})
        return
    for row in compared.differences:
        print(row.sentence)
    for reason in dict.fromkeys(row.why_not for row in compared.differences if row.why_not):
        print(reason)
    for curve in compared.curves:
        if curve.sentence:
            print(curve.sentence)
    if not compared.differences and not compared.curves:
        print(f"All samples are of {compared.reference}, on one day: there is nothing to compare them with.")
