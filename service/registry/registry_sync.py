"""Keep a folder of bundles in step with the registry: `python -m service.registry.registry_sync FOLDER [--once]`.

`service.registry.model_store` describes the versions and the folder. The first line on standard output is the result of
the first download, `{"serving": {task: version}}`, or `{"error": message}`, after which the program ends. Then it
queries the registry every `FATESCOPE_POLL_S` seconds, with a line of the same kind for each query, until its standard
input closes, as it does when its parent process ends. In a folder that has been followed before, it goes on after an
error from the start.

A query waits for no download (`service.registry.downloads`): an error of one is in the line of the next query, and the
other tasks get their versions. A version whose alias is gone is taken off the list, but only where the registry says
so: that it cannot be read, or is empty altogether as after the loss of its database, changes nothing.

Every LOOK_S seconds, or with each query where these are more often, aliases that somebody moved by hand are entered
into the audit log (`fatescope.alias_moves`), those of versions that are not served too.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from fatescope import artifact_places
from fatescope.alias_moves import AliasWatch
from fatescope.command import run
from fatescope.errors import BundleError, FatescopeError
from service.registry import challengers, registry_queries
from service.registry.downloads import Downloads, describe_refusal, download
from service.registry.model_store import follows_registry, read_champions
from service.settings import ServiceSettings

LOOK_S = 10.0
"""Time between two looks at the aliases: a move by hand is to be in the audit log within 30 s."""


def main(
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of bundles.")],
    *,
    once: Annotated[bool, typer.Option("--once", help="End after the first download.")] = False,
) -> None:
    """Keep a folder of bundles in step with the registry, until standard input closes."""
    try:
        settings = ServiceSettings.read()
        artifact_places.put_right(Path.cwd(), registry_queries.tracking_uri())
        champions = Downloads(target)
        challenging = Downloads(challengers.folder(target), _warn) if settings.challenged else None
        if follows_registry(target) and not once:
            # Another follower has ended, and what it fetched is served.
            served = {task: champion.version for task, champion in read_champions(target).items()}
        else:
            served = registry_queries.target_versions(settings.pin)
            if refused := download(champions, served):
                raise BundleError("; ".join(describe_refusal(task, found) for task, found in refused.items()))
            _report(serving=served)
            if challenging is not None:
                sync_challengers(challenging, served)
    except FatescopeError as error:
        _report(error=str(error))
        raise typer.Exit(1) from error
    if not once:
        _follow(champions, challenging, served, settings)
    if challenging is not None:
        challenging.wait()


def sync_challengers(downloads: Downloads, champions: Mapping[str, str]) -> None:
    """Have the challengers of `champions`, task → version in service, which go on whatever becomes of them.

    What goes wrong is reported, and tried again at the next query.
    """
    try:
        downloads.want(registry_queries.challenging_versions(champions))
    except Exception as error:  # noqa: BLE001  whatever it is, the champions are followed
        _warn(f"the challengers are not in step with the registry: {error}")


def _follow(
    champions: Downloads, challenging: Downloads | None, served: dict[str, str], settings: ServiceSettings
) -> NoReturn:
    """Have new versions downloaded as the registry names them, until standard input closes."""
    _end_with_parent()
    watch = AliasWatch(settings.audit_log) if settings.audit_log else None
    due = time.monotonic() + settings.poll_s
    while True:
        time.sleep(min(settings.poll_s, LOOK_S))
        if watch is not None:
            _note_moves(watch)
        if time.monotonic() < due:
            continue
        due = time.monotonic() + settings.poll_s
        # Of what was to come since the last query, and is tried again now.
        problems = champions.problems()
        try:
            served = registry_queries.followed_versions(settings.pin, served)
            champions.want(served)
        # The second where the disk is full, for example.
        except (BundleError, OSError) as error:
            # The versions that are served stay in service.
            _report(error=str(error))
            continue
        if problems:
            _report(error="; ".join(problems))
        else:
            _report(serving=served)
        if challenging is not None:
            sync_challengers(challenging, served)


def _note_moves(watch: AliasWatch) -> None:
    """Enter aliases that were moved by hand into the audit log; what keeps it from that is reported as an error."""
    try:
        # One that is empty altogether has rather lost its database than its aliases.
        if current := registry_queries.read_aliases():
            watch.look(current, registry_queries.describe_version)
    except FatescopeError as error:
        _report(error=str(error))
    except Exception as error:  # noqa: BLE001  whatever it is, the champions are followed
        _report(error=f"aliases moved by hand are not noticed: {type(error).__name__}: {error}")


def _report(**content: object) -> None:
    print(json.dumps(content), flush=True)


def _warn(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _end_with_parent() -> None:
    """End this process as soon as standard input closes; a query of a registry that is away takes minutes."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    run(main)
