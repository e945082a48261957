"""What the image installs: `deploy/requirements.txt`, which `make lock` makes of constraints.txt by asking PyPI."""

import json
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.project import ROOT

LOCKED = ROOT / "deploy" / "requirements.txt"
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "extra": ""}


def entries():
    """Return each requirement that applies on Linux, and its hashes."""
    lines = re.sub(r"\\\n\s*", "", LOCKED.read_text()).splitlines()
    found = []
    for line in lines:
        if line and not line.startswith("#"):
            text, *hashes = line.split(" --hash=")
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate(LINUX):
                found.append((requirement, hashes))
    return found


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {
        canonicalize_name(each.name): str(each.specifier)
        for each in found
        if each.marker is None or each.marker.evaluate(LINUX)
    }


def test_every_file_has_a_hash_and_every_version_is_that_of_the_constraints():
    known, locked = pins(), entries()
    assert len(locked) > 100
    for requirement, hashes in locked:
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each.strip()) for each in hashes), requirement
        assert known[canonicalize_name(requirement.name)] == str(requirement.specifier), "run `make lock`"


def test_it_has_all_that_the_image_needs_and_no_pytorch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [project["optional-dependencies"][name] for name in ("service", "monitoring", "server")]
    needed = {
        canonicalize_name(Requirement(line).name) for lines in (project["dependencies"], *extras) for line in lines
    }
    locked = {canonicalize_name(requirement.name) for requirement, _ in entries()}
    assert needed <= locked, "run `make lock`"
    assert "setuptools" in locked, "what builds our own package, without a download"
    # Its wheels for CPUs come from an index of their own, with hashes of their own.
    assert "torch" not in locked


def test_a_list_of_components_of_it_holds_to_the_schema(tmp_path):
    """Of a part of it, because the schema has every hash compared with every other."""
    validation = pytest.importorskip("cyclonedx.validation.json")
    pytest.importorskip("cyclonedx_py")
    schema, target = pytest.importorskip("cyclonedx.schema").SchemaVersion.V1_6, tmp_path / "sbom.cdx.json"
    part = tmp_path / "requirements.txt"
    part.write_text(LOCKED.read_text().partition("\nasyncssh==")[0].partition("\nattrs==")[0] + "\n")
    command = [
        sys.executable, "-m", "cyclonedx_py", "requirements", str(part), "--pyproject", str(ROOT / "pyproject.toml"),
        "--spec-version", "1.6", "--output-format", "JSON", "--no-validate", "--output-file", str(target),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    assert validation.JsonStrictValidator(schema).validate_str(target.read_text()) is None
    bill = json.loads(target.read_text())
    found = {component["name"]: component for component in bill["components"]}
    assert found["a2wsgi"]["purl"].startswith("pkg:pypi/a2wsgi@")
    assert bill["metadata"]["component"]["name"] == "fatescope"
