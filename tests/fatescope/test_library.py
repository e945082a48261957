import ast
import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fatescope import packages
from fatescope.inference import bundle
from tests.support.bundles import CLASSES, copy_bundle
from tests.support.images import tiff, typical
from tests.support.project import ROOT

CORE = {
    Requirement(line).name
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
}  # fmt: skip
EXTRAS = ("networks", "quality", "signing", "ray_session.py", "energy.py", "language", "lineage", "packages.py", "cli")
"""What in the library needs more than the core dependencies."""
USE = """
import json, sys
class Uninstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
blocked = set(json.loads(sys.argv[1]))
sys.meta_path.insert(0, Uninstalled())
import fatescope
bundle = fatescope.load(sys.argv[2])
logits = bundle.predict(bundle.example).logits.tolist()
[cell] = bundle.classify(sys.argv[3])
print(json.dumps([logits, cell.label, cell.probabilities]))
"""


def test_a_bundle_predicts_with_the_core_dependencies_alone(tmp_path):
    copy_bundle(tmp_path / "bundle", "multiclass")
    (tmp_path / "cell_Ch1.ome.tif").write_bytes(tiff(typical(3)))
    installed = packages.closure(CORE).keys() | {"fatescope"}
    others = [
        module
        for module, owners in packages_distributions().items()
        if not installed & {canonicalize_name(owner) for owner in owners}
    ]
    assert {"mlflow", "bentoml", "great_expectations", "sklearn"} <= set(others)
    paths = [str(tmp_path / "bundle"), str(tmp_path / "cell_Ch1.ome.tif")]
    logits, label, probabilities = json.loads(_python(USE, json.dumps(others), *paths))
    model = bundle.load(tmp_path / "bundle", 1)
    np.testing.assert_allclose(logits, model.expected, rtol=1e-4, atol=1e-4)
    assert list(probabilities) == CLASSES
    assert max(probabilities, key=probabilities.get) == label


def test_importing_the_library_imports_nothing_else():
    print_imported = "import sys; before = set(sys.modules); import fatescope; print(*set(sys.modules) - before)"
    imported = _python(print_imported).split()
    assert "fatescope" in imported
    assert not {name.partition(".")[0] for name in imported} - {"fatescope"} - sys.stdlib_module_names


@pytest.mark.slow
def test_the_core_dependencies_are_those_that_the_library_imports():
    modules = packages_distributions()
    imported = {
        canonicalize_name(modules[name][0])
        for path in (ROOT / "fatescope").rglob("*.py")
        if path.relative_to(ROOT / "fatescope").parts[0] not in EXTRAS
        for name in _imports(ast.parse(path.read_text()))
        if name not in sys.stdlib_module_names and name != "fatescope"
    }
    assert imported == {canonicalize_name(name) for name in CORE}


def _imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)


def _python(code, *arguments):
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
