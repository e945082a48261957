"""`fatescope demo`: from nothing to an answer, on simulated cells, with the real stages and the real service."""

import io
import json
import os
import time
import urllib.request
import webbrowser
import zipfile
from contextlib import AbstractContextManager, ExitStack, chdir
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

import fatescope
from fatescope.cli import console, machine, processes, serving
from fatescope.errors import FatescopeError

PRESET = "demo"
TASK = "binary"
DEFAULTS = Path(fatescope.__file__).parents[1] / "params.yaml"
"""The parameters that come with the sources; the preset changes what makes them slow."""
READY_S = 120.0
PORT = 3000
"""Of the service, as everywhere in the documentation."""
LOG = "service.log"


def demo(
    folder: Annotated[
        Path | None, typer.Option(help="Where to work, a new or empty folder that stays. [default: a temporary one]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="The port of the service. [default: 3000 where it is free, else another]", min=1, max=65535),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    once: Annotated[bool, typer.Option("--once", help="End after the answer.")] = False,
) -> None:
    """Train on simulated cells, serve the model, classify a sample.

    Takes about a minute and leaves your project untouched. A few hundred cells are drawn and a small network is
    trained on them: it shows the parts at work, and knows nothing of real cells.
    """
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FatescopeError(f"{folder}: is not an empty folder; name a new one")
    if not DEFAULTS.exists():
        raise FatescopeError(
            f"{DEFAULTS}: no such file; the demo needs the sources: git clone, then pip install -e '.'"
        )
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="fatescope-demo-")))
        place = folder.resolve()
        place.mkdir(parents=True, exist_ok=True)
        print(f"All cells of this demo are SIMULATED. Everything is written to {place}", flush=True)
        sample = train(place)
        port = port or (PORT if machine.port_is_free(PORT) else machine.free_port())
        url = f"http://127.0.0.1:{port}"
        with console.step(f"Start the service at {url}"):
            started = stack.enter_context(_service(place, port))
            _wait_until_ready(url, started, place)
        with console.step(f"Classify the {len(sample.paths)} cells of {sample.name}, a sample it was not trained on"):
            answer = _classify(url, sample)
        _print_answer(answer, sample)
        print(f"\nPage  {url}\nAPI   {url}/docs\nTry   curl -F image=@{sample.paths[0]} {url}/classify", flush=True)
        if once:
            return
        if browser:
            webbrowser.open(f"{url}/#example")
        print("Press Ctrl-C to end.", flush=True)
        try:
            processes.wait(started)
        except KeyboardInterrupt:
            print("\nEnding the service.", flush=True)


@dataclass(frozen=True)
class Sample:
    """The cells of one acquisition group that are for the test."""

    name: str
    label: str
    """The class that they were drawn as."""
    paths: list[Path]


def train(folder: Path) -> Sample:
    """Run the stages in `folder`, with a tracking store of its own, up to the bundle of TASK; return a test sample."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    with chdir(folder):
        with console.step("Load the libraries"):
            from fatescope import config
            from fatescope.config import presets
            from pipelines.commands import simulate
            from pipelines.stages import ingest, quality, split, tune
            from pipelines.stages import train as stage
        params, cells, splits = Path("params.yaml"), Path("artifacts/cells"), Path("artifacts/splits.parquet")
        models = Path("artifacts") / TASK
        params.write_bytes(DEFAULTS.read_bytes())
        presets.apply_preset(params, PRESET)
        drawn = config.load(params).simulate
        with console.step(f"Draw {drawn.cells} simulated cells of four media"):
            simulate.simulate(drawn, Path("data"))
        gated = Path("artifacts/quality.parquet")
        with console.step("Read them, draw the gates of quality, and split them by acquisition group"):
            ingest.main(params, Path("data"), cells)
            quality.main(params, cells, gated, Path("reports/quality.json"), Path("reports/quality"))
            split.main(params, cells, splits, gated)
        with console.step("Train and calibrate a small network, on a grouped and on a random split"):
            best = models / "best.json"
            tune.main(params, TASK, cells, splits, models / "study.journal", best, Path("reports") / TASK / "search")
            stage.main(params, TASK, cells, splits, best, models, gated)
        (folder / "bundles").mkdir()
        (folder / "bundles" / TASK).symlink_to(folder / models / "bundle")
        return _choose_sample(folder, cells, splits, config.load(params).classes(TASK))


def _choose_sample(folder: Path, cells: Path, splits: Path, classes: list[str]) -> Sample:
    """Return the first test group of the grouped split."""
    from fatescope.data import dataset
    from fatescope.data import splits as library

    manifest = dataset.load(cells).manifest
    tested = manifest.iloc[library.load(splits).indices("grouped", "test", classes)]
    group = tested[tested["group"] == min(tested["group"])]
    paths = [folder / "data" / path for path in group["path"]]
    return Sample(paths[0].parent.name, str(group["label"].iloc[0]), paths)


def _service(folder: Path, port: int) -> AbstractContextManager[processes.Processes]:
    """Start the service on the bundle of the demo; its output and its records stay below `folder`."""
    environment = {
        "FATESCOPE_BUNDLES": str(folder / "bundles"),
        "FATESCOPE_RECORDS": str(folder / "records"),
        "FATESCOPE_FEEDBACK": str(folder / "feedback"),
        "BENTOML_HOME": str(folder / "bentoml"),
    }
    # Settings of a service of the user's own, which would ask for keys or for other versions.
    for name in ("FATESCOPE_API_KEYS", "FATESCOPE_PIN"):
        os.environ.pop(name, None)
    commands = {"service": serving.serve_command(port, "127.0.0.1")}
    return processes.running(commands, environment, folder, folder / LOG)


def _wait_until_ready(url: str, started: processes.Processes, folder: Path) -> None:
    """Wait until the service answers; raises FatescopeError with its last lines where it does not."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and started["service"].poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5) as response:
                if response.status == 200:
                    return
        except OSError:  # not yet
            time.sleep(0.2)
    lines = (folder / LOG).read_text(errors="replace", encoding="utf-8").splitlines()[-5:]
    raise FatescopeError("the service did not start: " + " | ".join(lines))


def _classify(url: str, sample: Sample) -> dict[str, Any]:
    """Send the cells of `sample` as a zip, and return the answer of the service."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sample.paths:
            packed.write(path, f"{sample.name}/{path.name}")
    request = urllib.request.Request(
        f"{url}/classify_batch", archive.getvalue(), {"Content-Type": "application/zip"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        content: dict[str, Any] = json.load(response)
    return content


def _print_answer(answer: dict[str, Any], sample: Sample) -> None:
    """Print the composition of the sample, and the answer to its first cell."""
    culture, cell = answer["sample"], answer["cells"][0]
    print(f"\nThe sample, {culture['cells']} cells that were drawn as {sample.label}:")
    for name, share in (culture["composition"] or {}).items():
        print(f"  {name:<16} {share['share']:6.1%}   ({share['low']:.1%} to {share['high']:.1%})")
    print(
        f"  {culture['sure']} sure, {culture['unsure']} unsure, {culture['unlike_training']} unlike the training cells"
    )
    probable = ", ".join(f"{name} {value:.2f}" for name, value in cell["probabilities"].items())
    print(f"Its first cell, {cell['file']}: {cell['label']}, {cell['verdict'].replace('_', ' ')} ({probable})")
    print("A toy: a small network, trained on few, SIMULATED cells. `fatescope repro` makes a model in earnest.")
