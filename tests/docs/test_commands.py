"""The commands of README and docs run as they are written, page by page, in a small laboratory."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from tests.docs import laboratory
from tests.docs.blocks import SHELL, blocks, commands, pages, shell_blocks
from tests.docs.shown import differs
from tests.support.bundles import EXACT
from tests.support.images import draw_cell, tiff
from tests.support.project import ROOT
from tests.support.servers import serving

ADDRESS = "http://127.0.0.1:3000"
"""Where the pages say that the service is."""
PROGRAMS = ("fatescope", "make", "curl", "dvc", "pip", "python", "git", "bentoml", "mlflow", "docker", "kubectl", "ray")
LIMIT_S = 600


def run_pages():
    """Return the pages that have something to run; those that run the whole pipeline are long."""
    found = [page for page in pages() if any(block.reason is None for block in shell_blocks(page))]
    return [
        pytest.param(page, id=str(page.relative_to(ROOT)), marks=[pytest.mark.long] if _is_long(page) else [])
        for page in found
    ]


def _is_long(page):
    return any("fatescope repro" in block.text for block in shell_blocks(page) if block.reason is None)


def written_pages():
    """Return the pages that are not generated from help texts."""
    return [page for page in pages() if page.parent.name != "reference"]


@pytest.mark.parametrize("page", written_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_shell_block_is_run_or_says_why_not(page):
    for block in blocks(page):
        lines = [line.removeprefix("$ ") for line in block.text.splitlines()]
        if block.language in SHELL:
            assert block.reason is None or len(block.reason) > 10, f"{block}: say why it is not run"
            assert block.language == "bash" or block.text.startswith("$ "), f"{block}: begins with no command"
        else:
            hidden = [line for line in lines if line.startswith(tuple(f"{each} " for each in PROGRAMS))]
            assert not hidden, f"{block}: commands in a block that is not marked console or bash: {hidden}"
    indented = re.findall(rf"^ {{4,}}(?:\$ )?(?:{'|'.join(PROGRAMS)}) .*$", _without_blocks(page), re.MULTILINE)
    assert not indented, f"{page}: commands outside of fenced blocks: {indented}"


def _without_blocks(page):
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return laboratory.make(tmp_path_factory.mktemp("laboratory") / "project")


@pytest.fixture
def folder(prepared, tmp_path):
    """A copy of the laboratory, with an export beside it as the pages take for granted."""
    target = shutil.copytree(prepared, tmp_path / "project", symlinks=True)
    _write_export(target / "export.zip")
    return target


def _write_export(target):
    """Write a zip of made-up cells as IDEAS exports them: two classes, three samples of each."""
    rng, folder = np.random.default_rng(0), target.with_suffix("")
    for medium, radius in (("astro", 8), ("oligo", 14)):
        for run in (1, 2, 3):
            sample = folder / f"{medium}_day3_run{run}"
            sample.mkdir(parents=True)
            for number in range(20):
                cell = draw_cell(rng, *rng.integers((40, 50), (50, 70)), radius)
                (sample / f"{number}_Ch1.ome.tif").write_bytes(tiff(cell))
                (sample / f"{number}_Ch2.ome.tif").write_bytes(tiff(cell // 2))
    shutil.make_archive(str(folder), "zip", folder)
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("page", run_pages())
def test_the_commands_of_a_page_run_as_written(page, folder, tmp_path):
    runnable = [block for block in shell_blocks(page) if block.reason is None]
    if not any(ADDRESS in block.text for block in runnable):
        _run(runnable, folder, ADDRESS)
        return
    settings = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "FATESCOPE_FEEDBACK": str(folder / "feedback"),
        "FATESCOPE_SIGNING_KEY": str(laboratory.key(folder)),
        **EXACT,
    }
    with serving(tmp_path, ROOT, settings) as client:
        _run(runnable, folder, str(client.base_url).rstrip("/"))


def _run(runnable, folder, address):
    for block in runnable:
        for command in commands(block):
            refused = '"error"' in command.output
            text = command.text.replace(ADDRESS, address)
            text = re.sub(r"\bcurl ", "curl -sS " if refused else "curl -sS --fail-with-body ", text)
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=folder,
                env=laboratory.environment(folder),
                capture_output=True,
                text=True,
                check=False,
                timeout=LIMIT_S,
            )
            said = f"{block}: {command.text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            assert done.returncode == 0, said
            if command.output.strip():
                assert (wrong := differs(command.output, done.stdout)) is None, f"{wrong}\n{said}"
