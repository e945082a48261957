"""Every text file is opened with its encoding: a locale must not decide what is read."""

import ast

import pytest

from tests.support.project import ROOT

BINARY_OPENERS = ("Image", "webbrowser", "bundle", "archive", "zipfile", "tarfile")
"""What has a method `open` that opens no text."""


def without_encoding(source):
    """Yield the lines of calls that open a file as text in the encoding of the locale."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(word.arg in ("encoding", None) for word in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = getattr(getattr(node.func, "value", None), "id", "")
        if (name == "read_text" and not node.args) or (name == "write_text" and len(node.args) == 1):
            yield node.lineno
        elif name == "open" and owner not in BINARY_OPENERS and len(node.args) <= 1:
            modes = [*node.args, *(word.value for word in node.keywords if word.arg == "mode")]
            if all(isinstance(mode, ast.Constant) and "b" not in str(mode.value) for mode in modes):
                yield node.lineno


@pytest.mark.parametrize("package", ["fatescope", "pipelines", "service", "monitoring"])
def test_text_files_are_opened_with_their_encoding(package):
    places = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for line in without_encoding(path.read_text(encoding="utf-8"))
    ]
    assert not places


def test_the_search_finds_what_it_looks_for():
    calls = ["read_text()", "write_text(t)", "open()", "open('a')", "open('rb')", "open(encoding='utf-8')"]
    source = "\n".join(f"p.{call}" for call in calls)
    assert list(without_encoding(source)) == [1, 2, 3, 4]
