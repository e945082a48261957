"""What the image is built from; there is no Docker in the tests, so that its steps are read, and one is run."""

import re
import shlex
import subprocess

import pytest
from ruamel.yaml import YAML

from tests.support.project import ROOT

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
STEPS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()
    if line
]
"""Instruction and its arguments, in order."""


def arguments():
    return dict(rest.split("=", 1) for name, rest in STEPS if name == "ARG")


def commands():
    """Return the words of each `docker build` that comment and page tell."""
    page = (ROOT / "docs" / "how-to" / "deploy-on-kubernetes.md").read_text()
    told = re.sub(r"\\\n#?\s*", "", DOCKERFILE + page)
    return [shlex.split(line) for line in re.findall(r"^(?:#\s*)?(docker build .*)$", told, re.MULTILINE)]


def test_both_stages_are_of_the_base_that_can_be_chosen():
    assert [step for step in STEPS if step[0] == "FROM"] == [["FROM", "$BASE AS built"], ["FROM", "$BASE"]]
    assert STEPS[0] == ["ARG", f"BASE={arguments()['BASE']}"], "an argument of FROM stands before the first one"
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", arguments()["BASE"]), "pinned"


def test_what_is_copied_is_there():
    for name, rest in STEPS:
        if name == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source


def test_the_commands_that_are_told_name_arguments_that_there_are():
    assert len(commands()) == 4
    for words in commands():
        assert words[2:4] == ["-f", "deploy/Dockerfile"]
        assert words[-1] == "."
        given = [words[i + 1].split("=", 1)[0] for i, word in enumerate(words) if word == "--build-arg"]
        assert set(given) <= set(arguments()), words
        tag = words[words.index("-t") + 1]
        assert tag == ("fatescope:0.1.0-gpu" if given else "fatescope:0.1.0")
    overlay = YAML(typ="safe").load(ROOT / "deploy" / "kubernetes" / "gpu" / "kustomization.yaml")
    assert overlay["images"] == [{"name": "fatescope", "newTag": "0.1.0-gpu"}]


@pytest.mark.parametrize("package", ["onnxruntime", "onnxruntime-gpu", "onnxruntime-gpu[cuda,cudnn]"])
def test_onnx_runtime_is_of_the_version_of_the_constraints_whatever_it_is_built_for(tmp_path, package):
    """Run the step with a Python and a pip that write down what they are asked for."""
    step, _ = [rest for name, rest in STEPS if name == "RUN"]
    for path in (tmp_path / "python", tmp_path / "venv" / "bin" / "pip"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('#!/bin/sh\necho "$(basename $0) $@" >> "$LOG"\n')
        path.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LOG": str(tmp_path / "log"), "ONNXRUNTIME": package}
    subprocess.run(["sh", "-ec", step.replace("/venv", str(tmp_path / "venv"))], cwd=ROOT, env=environment, check=True)
    asked = (tmp_path / "log").read_text().splitlines()
    assert asked[:3] == [
        f"python -m venv {tmp_path / 'venv'}",
        "pip install --no-cache-dir --require-hashes -r requirements.txt",
        "pip install --no-cache-dir --no-deps --no-build-isolation .",
    ]
    [version] = re.findall(r"^onnxruntime==(\S+)$", CONSTRAINTS, re.MULTILINE)
    assert asked[3:] == (
        []
        if package == "onnxruntime"
        else [
            "pip uninstall -y onnxruntime",
            f"pip install --no-cache-dir -c constraints.txt {package}=={version}",
        ]
    )
