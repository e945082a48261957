"""Gateway or runner as a server of its own, to scale apart: `python -m service.standalone runner`, then `gateway`.

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

from fatescope.errors import FatescopeError
from service.registry import model_store

RUNNER = "FATESCOPE_RUNNER"
BENTO = "service.gateway:Fatescope"
PORTS = {"gateway": 3000, "runner": 3001}


def main(
    part: Literal["gateway", "runner"],
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: its own")] = 0,
) -> None:
    """Start PART, and serve until it is told to end."""
    if part == "gateway" and RUNNER not in os.environ:
        sys.exit(f"error: {RUNNER} is not set; name the runner's address, such as http://127.0.0.1:{PORTS['runner']}")
    from _bentoml_impl.loader import load  # type: ignore[import-untyped]  # noqa: PLC0415  BentoML takes seconds
    from _bentoml_impl.server import serve_http  # type: ignore[import-untyped]  # noqa: PLC0415  the same

    from service.runner import Runner  # noqa: PLC0415  it imports BentoML

    source = str(Path(__file__).parent.parent)
    runner: str = Runner.name  # type: ignore[attr-defined]  # BentoML makes a service of the class
    which = {"service_name": runner} if part == "runner" else {"dependency_map": {runner: os.environ[RUNNER]}}
    try:
        # Only a gateway does so by itself.
        model_store.settle()
        # As the command line of BentoML does, which cannot say which part.
        load(BENTO, source).inject_config()
        serve_http(BENTO, working_dir=source, host=host, port=port or PORTS[part], **which)
    except FatescopeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    typer.run(main)
