"""The sheets of an export: which of its tables says what its samples are."""

from collections.abc import Iterator

from fatescope.errors import DataError
from pipelines.ingestion.proposal import sheet
from pipelines.ingestion.proposal.exports import Export
from pipelines.ingestion.proposal.layout import Layout
from pipelines.ingestion.proposal.sheet import Reading
from pipelines.ingestion.proposal.sheet_keys import Sheet, read_sheet, samples_of
from pipelines.ingestion.proposal.wishes import Wishes


def read_sheets(export: Export, layout: Layout, wishes: Wishes) -> Reading | None:
    """Return what the first sheet that is of the samples says of them."""
    if wishes.sheet is not None:
        try:
            table = read_sheet(wishes.sheet.read_bytes(), wishes.sheet.name)
        except OSError as error:
            raise DataError(f"{wishes.sheet}: cannot be read: {error.strerror}") from error
        reading = sheet.understand(table, layout, wishes.label) if table else None
        if reading is None:
            raise DataError(_explain_sheet(wishes.sheet.name, table, layout))
        return reading
    for table in read_tables(export):
        if reading := sheet.understand(table, layout):
            return sheet.understand(table, layout, wishes.label) if wishes.label in table.columns else reading
    return None


def read_tables(export: Export) -> Iterator[Sheet]:
    """Yield the tables in an export that may say what its samples are."""
    paths = [path for path in export.paths if sheet.is_sheet(path)]
    export.fetch(paths)
    for path in paths:
        file = export.folder / path
        if file.stat().st_size <= sheet.MAX_BYTES and (table := read_sheet(file.read_bytes(), path)):
            yield table


def _explain_sheet(name: str, table: Sheet | None, layout: Layout) -> str:
    if table is None:
        return f"{name}: no table with a header and several columns; save it as CSV"
    samples = ["/".join(sample) for sample in dict.fromkeys(samples_of(layout))]
    return (
        f"{name}: no column, or up to three together, names the samples of this export, which are "
        f"{', '.join(samples[:5])}{', …' if len(samples) > 5 else ''}; it has the columns {', '.join(table.columns)}. "
        "Give it a column with the names of the folders or files, and one with the class"
    )
