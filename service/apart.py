"""Gateway and runner as servers of their own, to be scaled apart: `python -m service.apart runner`, then `gateway`.

`bentoml serve` starts both on one machine and is what fits one; its command line has no way to start one of them, its
server has. The gateway finds the runner at `FATESCOPE_RUNNER` (`http://fatescope-runner:3001`). Each follows the
registry on its own: a champion that a runner does not have yet is tried again by the gateway.

What the two send each other are pickles, as BentoML has it: nobody but gateways may reach a runner.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.core.errors import FatescopeError
from service import champions

RUNNER = "FATESCOPE_RUNNER"
PORTS = {"gateway": 3000, "runner": 3001}


def main(
    part: Literal["gateway", "runner"],
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: its own")] = 0,
) -> None:
    """Start PART, and serve until it is told to end."""
    from _bentoml_impl.server import serve_http  # type: ignore[import-untyped]  # noqa: PLC0415  takes seconds

    # The name by which the runner goes is that of its class, which is imported once the folder is settled.
    name = "fatescope-runner"
    told = {"working_dir": str(Path(__file__).parent.parent), "host": host, "port": port or PORTS[part]}
    try:
        if part == "runner":
            champions.settle()
            serve_http("service.gateway:Fatescope", service_name=name, **told)
            return
        if RUNNER not in os.environ:
            sys.exit(
                f"error: {RUNNER} is not set; name the runner's address, such as http://127.0.0.1:{PORTS['runner']}"
            )
        serve_http("service.gateway:Fatescope", dependency_map={name: os.environ[RUNNER]}, **told)
    except FatescopeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    typer.run(main)
