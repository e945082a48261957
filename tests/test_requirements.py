"""What `make repro`, `make serve` and `make watch` install is what the code of these packages imports."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from packaging.utils import canonicalize_name

from fatescope import packages
from tests.support.project import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OWN = {"fatescope", "pipelines", "service", "monitoring", "benchmarks", "tests"}
OPTIONAL = {"peft", "ray", "tokenizers", "torch", "transformers"}
"""Imported where they are asked for: a Ray cluster by pipelines and service, PyTorch as an engine of the service, a
vision-language model by pipelines."""


def imports(folder):
    """Return the top-level modules that the code in `folder` imports, but those of the standard library."""
    names = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - OWN


@pytest.mark.parametrize(
    ("extra", "folders"),
    [
        ("pipelines", ["pipelines", "fatescope/networks", "fatescope/quality"]),
        ("service", ["service"]),
        ("monitoring", ["monitoring", "fatescope/quality"]),
    ],
)
def test_an_extra_brings_what_its_package_imports(extra, folders):
    brought = packages.closure(PROJECT["dependencies"] + PROJECT["optional-dependencies"][extra])
    distributions = packages_distributions()
    imported = set().union(*map(imports, folders)) - OPTIONAL
    missing = {
        name for name in imported if not {canonicalize_name(owner) for owner in distributions[name]} & brought.keys()
    }
    assert not missing, f"add to the extra {extra} in pyproject.toml"


def test_training_brings_no_tool_of_tests_clusters_or_clouds():
    brought = packages.closure(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["pipelines"])
    assert not brought.keys() & {
        "bentoml",
        "openvino",
        "ray",
        "boto3",
        "dvc-s3",
        "psycopg",
        "pytest",
        "mypy",
        "playwright",
        "moto",
    }
