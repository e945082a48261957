"""Write the code that each stage depends on into `dvc.yaml`: `python -m pipelines.commands.dependencies`.

A stage depends on every module of ours that its module imports, directly or not (its import closure), and on the files
of ours that those modules read. DVC runs a stage again when one of them changes: an edit of a plot does not retrain,
and an edit of what a verdict rests on leaves no stale verdict.
"""

import ast
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from fatescope.command import run
from fatescope.errors import DataError

ROOT = Path(__file__).parents[2]
OURS = ("fatescope", "pipelines")
"""Packages that stages are made of."""
READ = {
    "pipelines/reporting/model_card.py": ("pipelines/reporting/templates",),
    "pipelines/registry/log_version.py": ("pipelines/registry/pyfunc.py",),
}
"""Module → files of ours that it reads, or hands on as files, instead of importing them."""


def closure(module: str, root: Path = ROOT) -> list[str]:
    """Return the paths, relative to `root`, of everything of ours that `module` runs when it is imported and called.

    Imports inside functions count, but for those of an `__init__.py`, which serve users of the library and no stage.
    `__init__.py` files count where they hold more than a docstring.
    """
    paths, waiting = set[Path](), [module]
    seen = set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or name.partition(".")[0] not in OURS:
            continue
        seen.add(name)
        package, _, _ = name.rpartition(".")
        if package:
            waiting.append(package)
        path = _path_of(name, root)
        if path is not None:
            paths.add(path)
            tree = ast.parse(path.read_text(encoding="utf-8"))
            waiting += _imported(tree.body if path.name == "__init__.py" else ast.walk(tree))
    code = {str(path.relative_to(root)) for path in paths if path.name != "__init__.py" or _has_code(path)}
    return sorted(code.union(*(READ.get(path, ()) for path in code)))


def _path_of(module: str, root: Path) -> Path | None:
    """Return the file of a module or package; None for a name that is neither, such as an imported function."""
    stem = root.joinpath(*module.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def _imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the absolute names that `nodes` import; a name taken from a package may be a module or not."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _has_code(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant) for node in body)


def with_closures(text: str, root: Path = ROOT) -> str:
    """Return the `text` of dvc.yaml with the code in the `deps` of each stage replaced by its import closure."""
    yaml = YAML()
    yaml.width = 1000
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(text)
    for name, stage in content["stages"].items():
        entry = stage.get("do", stage)
        data = [dep for dep in entry["deps"] if not _is_code(dep)]
        deps = type(entry["deps"])([*data, *closure(f"pipelines.stages.{name}", root)])
        deps.fa.set_block_style()
        # A comment that belongs to the key stays with the key.
        entry["deps"] = deps
    stream = io.StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()


def _is_code(dependency: Any) -> bool:  # noqa: ANN401  a scalar of ruamel's
    return str(dependency).partition("/")[0] in OURS


def main(
    *,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; fail where dvc.yaml is not current.")] = False,
) -> None:
    """Write the import closure of every stage into dvc.yaml."""
    path = ROOT / "dvc.yaml"
    before = path.read_text(encoding="utf-8")
    after = with_closures(before)
    if check and after != before:
        raise DataError("dvc.yaml: deps are not the import closures; run `python -m pipelines.commands.dependencies`")
    path.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    run(main)
