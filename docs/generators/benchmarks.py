"""`benchmarks.md`: what each benchmark measures, from the docstrings of `benchmarks` and the Makefile."""

import ast
import re
from pathlib import Path

from generators.markdown import code, docstring, table

INTRODUCTION = """\
A benchmark runs peer, limit and Fatescope in turn in one run on the same machine, prints a table, and writes
`reports/bench/NAME.json`: the machine, versions, seed, and a list of `{"figure": …, "value": …, "bar": …, "holds":
true | false}`. A bar is what the project wants to keep; a figure that misses it is reported as missed. What they gave
is in [Results](../explanation/results.md).
"""


def page(root: Path) -> str:
    """Return the page."""
    targets = set(re.findall(r"^bench-(\w+):", (root / "Makefile").read_text(), re.MULTILINE))
    found = {path.stem: ast.get_docstring(ast.parse(path.read_text())) for path in (root / "benchmarks").glob("*.py")}
    names = sorted(targets & set(found))
    if missing := targets - set(found):
        raise ValueError(f"the Makefile has benchmarks without a module: {sorted(missing)}")
    commands = [[code(f"fatescope bench {name}"), code(f"make bench-{name}")] for name in names]
    parts = ["# Benchmarks", INTRODUCTION, table(["command", "the same"], commands)]
    for name in names:
        parts += [f"## {name}", docstring(found[name])]
    return "\n\n".join(parts)
