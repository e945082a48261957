"""`benchmarks.md`: what each benchmark measures, from the docstrings of `benchmarks`."""

import ast
from pathlib import Path

from fatescope.cli.pipeline import BENCHMARKS
from generators.markdown import code, docstring, table

INTRODUCTION = """\
A benchmark runs peer, limit and Fatescope in turn in one run on the same machine, prints a table, and writes
`reports/bench/NAME.json`: the machine, versions, seed, and a list of `{"figure": …, "value": …, "bar": …, "holds":
true | false}`. A bar is what the project wants to keep; a figure that misses it is reported as missed. What they gave
is in [Results](../explanation/results.md).
"""


def page(root: Path) -> str:
    """Return the page."""
    texts = {name: ast.get_docstring(ast.parse((root / f"benchmarks/{name}.py").read_text())) for name in BENCHMARKS}
    names = sorted(texts)
    commands = [[code(f"fatescope bench {name}"), code(f"make bench-{name}")] for name in names]
    parts = ["# Benchmarks", INTRODUCTION, table(["command", "the same"], commands)]
    for name in names:
        parts += [f"## {name}", docstring(texts[name])]
    return "\n\n".join(parts)
