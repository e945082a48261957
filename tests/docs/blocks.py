"""The fenced blocks of Markdown pages, and what runs in a shell among them."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.support.project import ROOT

SHELL = ("console", "bash")
"""Languages of blocks that run: lines after `$ ` with their output, or a script."""
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->")
FENCE = re.compile(r"^(?P<fence>`{3,}|~{3,})(?P<language>\S*).*$")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    """Of the opening fence, from 1."""
    language: str
    text: str
    reason: str | None
    """Why it is not run; None where it is."""

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command, and what the page shows that it prints."""

    text: str
    output: str


def pages():
    """Return the pages that people read: the README, CONTRIBUTING and all below docs."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page):
    """Return the fenced blocks of a page, in order."""
    found, opened, above = [], None, ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = FENCE.match(line)
        if opened is None and fence:
            mark = NOT_RUN.fullmatch(above.strip())
            opened = number, fence["fence"], fence["language"], mark[1] if mark else None, []
        elif opened is not None and line.strip() == opened[1]:
            start, _, language, reason, lines = opened
            found.append(Block(page, start, language, "\n".join(lines) + "\n", reason))
            opened = None
        elif opened is not None:
            opened[4].append(line)
        above = line if line.strip() else above
    assert opened is None, f"{page}: the block of line {opened[0]} is not closed"
    return found


def shell_blocks(page):
    """Return the blocks of a page that a reader would paste into a shell."""
    return [block for block in blocks(page) if block.language in SHELL]


def commands(block):
    """Return the commands of a block; a script is one, without output."""
    if block.language == "bash":
        return [Command(block.text, "")]
    found = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append([line.removeprefix("$ "), []])
        elif found[-1][0].endswith("\\"):
            found[-1][0] += "\n" + line
        else:
            found[-1][1].append(line)
    return [Command(text, "\n".join(output)) for text, output in found]
