"""Tables of figures, which benchmarks write into pages of the documentation."""

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.report import Figure


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    name: str
    values: dict[str, float]
    """Column → value."""
    bars: dict[str, str] = field(default_factory=dict)
    """Column → bar, such as `>= 0.93`."""
    forms: dict[str, str] = field(default_factory=dict)
    """Column → how its value is written; by default as a percentage."""


def to_figures(section: str, rows: list[Row]) -> list[Figure]:
    """Return the values of a table as figures."""
    return [
        Figure(f"{section}: {row.name}, {column}", float(value), row.bars.get(column))
        for row in rows
        for column, value in row.values.items()
    ]


def table(rows: list[Row]) -> str:
    """Return a table as Markdown; values that miss their bar are marked."""
    columns = list(dict.fromkeys(column for row in rows for column in row.values))
    lines = [["", *columns], ["---"] * (1 + len(columns))]
    lines += [[row.name, *(_entry(row, column) for column in columns)] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _entry(row: Row, column: str) -> str:
    if column not in row.values:
        return ""
    text = row.forms.get(column, "{:.1%}").format(row.values[column])
    missed = Figure("", row.values[column], row.bars.get(column)).holds is False
    return f"{text}, **missed**" if missed else text


def fill(page: Path, tables: dict[str, str]) -> None:
    """Write each table between `<!-- NAME -->` and `<!-- end -->`; raises ValueError where these are missing."""
    text = page.read_text(encoding="utf-8")
    for name, content in tables.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise ValueError(f"{page}: no markers <!-- {name} --> and <!-- end -->")
        text = f"{before}{begin}\n{content}\n\n{end}{after}"
    page.write_text(text, encoding="utf-8")
