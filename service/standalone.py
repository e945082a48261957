"""Run gateway or runner as a server of its own, to scale them separately: `python -m service.standalone runner`.

`bentoml serve` starts both on one machine; its command line cannot start only one of them, its server can. The gateway
finds the runner at `FATESCOPE_RUNNER` (`http://fatescope-runner:3001`). Both follow the registry on their own: if a
runner does not have a new champion yet, the gateway tries again.

A runner answers only who knows its secret (`service.runner_protocol`). On one machine both find it in a file of the
user; on several, set `FATESCOPE_RUNNER_SECRET`, or name a file with `FATESCOPE_RUNNER_SECRET_FILE`, for both.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from fatescope.command import run
from fatescope.errors import ParamsError
from fatescope.ports import OTHER_PORT, check_port
from service.registry import model_store
from service.settings import ServiceSettings, paths_from_here, variable

BENTO = "service.gateway:Fatescope"
PORTS = {"gateway": 3000, "runner": 3001}


def main(
    part: Annotated[Literal["gateway", "runner"], typer.Argument(metavar="PART", help="What to serve.")],
    host: Annotated[str, typer.Option(help="Address to bind to.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: 3000 for the gateway, 3001 for the runner.")] = 0,
) -> None:
    """Serve PART until the process is terminated."""
    settings = ServiceSettings.read()
    if part == "gateway" and settings.runner is None:
        example = f"http://127.0.0.1:{PORTS['runner']}"
        raise ParamsError(f"{variable('runner')} is not set; set it to the address of the runner, such as {example}")
    check_port(host, port or PORTS[part], OTHER_PORT)
    from service import runner_protocol  # noqa: PLC0415  it imports BentoML

    # Before the service is imported, here and in the worker processes, which read it from their environment.
    runner_protocol.share_secret(runner_protocol.own_secret(settings))
    from _bentoml_impl.loader import load  # type: ignore[import-untyped]  # noqa: PLC0415  BentoML takes seconds
    from _bentoml_impl.server import serve_http  # type: ignore[import-untyped]  # noqa: PLC0415  the same

    from service.runner import Runner  # noqa: PLC0415  it imports BentoML

    source = str(Path(__file__).parent.parent)
    runner: str = Runner.name  # type: ignore[attr-defined]  # BentoML makes a service of the class
    options = {"service_name": runner} if part == "runner" else {"dependency_map": {runner: settings.runner}}
    # BentoML prepares the store for a gateway only; the worker processes inherit the variable.
    os.environ[variable("bundles")] = str(model_store.ensure_store(settings))
    # Without it, a Bento has no runner that could be served alone on a machine without a GPU.
    os.environ[variable("runner_process")] = "true"
    os.environ.update(paths_from_here())
    # As the command line of BentoML does.
    load(BENTO, source).inject_config()
    serve_http(BENTO, working_dir=source, host=host, port=port or PORTS[part], **options)


if __name__ == "__main__":
    run(main)
