"""Pieces of Markdown that the generated pages share."""

import re
from collections.abc import Iterable, Sequence

_DIRECTIVE = re.compile(r"`{3,}|^\s*(#+) ", re.MULTILINE)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells may hold any text, of which pipes and line ends are made safe."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join(lines)


def code(text: object) -> str:
    """Return `text` as code in a line; nothing for an empty text."""
    shown = str(text)
    fence = "``" if "`" in shown else "`"
    pad = " " if "`" in shown else ""
    return f"{fence}{pad}{shown}{pad}{fence}" if shown else ""


def block(text: str, language: str = "") -> str:
    """Return `text` as a block of code."""
    return f"```{language}\n{text.strip()}\n```"


def docstring(text: str | None) -> str:
    """Return a docstring as Markdown; raises ValueError for one that would break the page."""
    shown = (text or "").strip()
    if _DIRECTIVE.search(shown):
        raise ValueError(f"a docstring with a heading or a fence cannot be put into a page: {shown[:60]!r}")
    lines: list[str] = []
    for line in shown.splitlines():
        if lines and lines[-1] and _starts_block(lines[-1], line):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def _starts_block(before: str, line: str) -> bool:
    """Tell whether Markdown needs an empty line between two lines, of which one is in a list or a table."""
    in_list = before.startswith(("- ", "  "))
    if line.startswith("- "):
        return not in_list
    return bool(line) and (line.startswith("|") != before.startswith("|") or (in_list and not line.startswith(" ")))


def sentence(text: str | None) -> str:
    """Return the first paragraph of a docstring in one line."""
    return " ".join((text or "").strip().partition("\n\n")[0].split())


def anchor(heading: str) -> str:
    """Return the anchor that forges give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
