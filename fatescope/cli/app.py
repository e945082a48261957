"""The command line of `fatescope`: every command in the order of a project's life."""

import os
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from fatescope import command
from fatescope.cli import (
    audit_log,
    cultures,
    data,
    demo,
    describe,
    doctor,
    kept,
    labels,
    language,
    models,
    pipeline,
    serving,
)
from fatescope.cli.console import examples

ENVIRONMENT = dict(
    re.findall(r"^export (\w+) \?= (.*)$", Path(__file__).with_name("environment.mk").read_text("utf-8"), re.MULTILINE)
)
"""Environment of every program that a command starts, unless it is set otherwise."""

EXTRAS = {
    "bentoml": "service",
    "fastapi": "service",
    "great_expectations": "monitoring",
    "httpx": "monitoring",
    "matplotlib": "pipelines",
    "mlflow": "pipelines",
    "openvino": "service",
    "optuna": "pipelines",
    "peft": "language",
    "prometheus_client": "monitoring",
    "scipy": "pipelines",
    "sklearn": "pipelines",
    "tifffile": "pipelines",
    "tokenizers": "language",
    "torch": "pipelines",
    "torchvision": "pipelines",
    "transformers": "language",
}
"""Library that a command may find missing → the extra of the package that has it."""

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=examples("fatescope demo", "fatescope repro", "fatescope serve"),
)


@app.callback(invoke_without_command=True)
def fatescope(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Predict the fate of cells from label-free images: train, audit, serve and monitor a classifier.

    For research use only.
    """
    if show_version:
        print(_version())
    elif context.invoked_subcommand is None:
        print(context.get_help())


app.command(epilog=examples("fatescope demo", "fatescope demo --folder try --port 3000", "fatescope demo --once"))(
    demo.demo
)
app.command(epilog=examples("fatescope doctor", "fatescope doctor --json"))(doctor.doctor)
data.data.command(
    epilog=examples(
        "fatescope data forget --sample donor-17",
        "fatescope data forget --sample donor-17 --request 5f0c2a9b7d1e4c33 --yes --proof forgotten.json",
        "fatescope data forget --image cell.tif --also scored --yes",
    )
)(kept.forget)
data.data.command(epilog=examples("fatescope data expire", "fatescope data expire --yes"))(kept.expire)
app.add_typer(data.data, name="data")
app.command(epilog=examples("fatescope repro", "fatescope repro --preset thorough", "fatescope repro train@binary"))(
    pipeline.repro
)
app.command(epilog=examples("fatescope audit", "fatescope audit export.zip --preset ideas", "fatescope audit --json"))(
    pipeline.audit
)
app.command(epilog=examples("fatescope tune binary"))(pipeline.tune)
app.command("held-out", epilog=examples("fatescope held-out multiclass NT3"))(pipeline.held_out)
app.add_typer(language.language, name="language")
app.add_typer(models.models, name="models")
app.command(epilog=examples("fatescope serve", "fatescope serve --bundles bundles --port 3001"))(serving.serve)
app.command(epilog=examples("fatescope watch"))(serving.watch)
app.command(
    epilog=examples("fatescope score export --out scored", "fatescope score export --out scored --model bundles/binary")
)(serving.score)
app.command(
    epilog=examples("fatescope cultures scored", "fatescope cultures scored --plate-map plate.csv --reference control")
)(cultures.cultures)
app.command(
    epilog=examples("fatescope describe export.zip", "fatescope describe scored --sample control_r1 --template")
)(describe.describe)
app.add_typer(labels.labels, name="labels")
app.add_typer(serving.keys, name="keys")
app.add_typer(audit_log.log, name="audit-log")
app.command(epilog=examples("fatescope bento"))(serving.bento)
app.command(epilog=examples("fatescope bench", "fatescope bench training"))(pipeline.bench)


def main() -> None:
    """Run the command line of this process; names of files are UTF-8 whatever the locale is."""
    if sys.getfilesystemencoding() != "utf-8":
        # Names of files and classes would read otherwise than on other machines; the mode has to be there at the start.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606  this command again
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        command.execute(app, "fatescope")
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(f"error: {error.name} is not installed; pip install -e '.[{extra}]'", file=sys.stderr)
        sys.exit(1)


def _version() -> str:
    try:
        return version("fatescope")
    except PackageNotFoundError:
        return "unknown: not installed"
