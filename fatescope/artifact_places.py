"""Where MLflow keeps the files of runs and versions, after the folder of a project was moved or copied.

MLflow's own default, `mlflow.db` and `mlruns` in the folder of the project, holds absolute paths: of a folder that was
moved nothing can be fetched, and a copy writes into the original. A path is out of place where it leads into another
`mlruns`, and its files are in the `mlruns` beside the database, or nowhere.

Databases of a server, and artifacts that are kept anywhere else, are left alone.
"""

import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from fatescope import plural
from fatescope.errors import FatescopeError

log = logging.getLogger(__name__)

DATABASE, FOLDER = "mlflow.db", "mlruns"
"""What MLflow makes in the current folder where MLFLOW_TRACKING_URI is not set."""
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""Tables and columns that hold such paths; those that an older database lacks are passed over."""


@dataclass(frozen=True)
class Misplaced:
    """One path that is out of place."""

    table: str
    column: str
    before: str
    after: str


def own_database(folder: Path, tracking_uri: str | None = None) -> Path | None:
    """Return the database in `folder` if it is the registry there, else None.

    `tracking_uri` is MLFLOW_TRACKING_URI where that is set; it may name this database too.
    """
    database = folder.resolve() / DATABASE
    if not database.is_file():
        return None
    if not tracking_uri:
        return database
    named = urlparse(tracking_uri)
    # Three slashes before a relative path, four before an absolute one.
    place = folder / url2pathname(named.path.removeprefix("/"))
    return database if named.scheme == "sqlite" and place.resolve() == database else None


def find_misplaced(database: Path) -> list[Misplaced]:
    """Return the paths in `database` that are out of place; raises FatescopeError where it cannot be read."""
    try:
        # For writing where that is allowed: a process that was killed leaves a journal, which the next reader rolls
        # back, and one that may not write cannot.
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", timeout=60, uri=True)) as connection:
            return list(_misplaced(connection, database.resolve().parent / FOLDER))
    except sqlite3.Error as error:
        raise FatescopeError(f"{database}: cannot be read ({error})") from error


def repair(database: Path) -> list[Misplaced]:
    """Put the paths in `database` right, all or none, and return what was out of place.

    Raises FatescopeError where it cannot be written.
    """
    try:
        # Autocommit: the transaction is begun and ended below.
        with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            misplaced = list(_misplaced(connection, database.resolve().parent / FOLDER))
            for path in misplaced:
                connection.execute(
                    f"UPDATE {path.table} SET {path.column} = ? WHERE {path.column} = ?",  # noqa: S608  of COLUMNS
                    (path.after, path.before),
                )
            connection.execute("COMMIT")
            return misplaced
    except sqlite3.Error as error:
        raise FatescopeError(
            f"{database}: the folder was moved or copied, and its places cannot be put right ({error}); make it "
            "writable, and run `fatescope models repair`"
        ) from error


def put_right(folder: Path, tracking_uri: str | None) -> None:
    """Lead the registry in `folder`, if it is the one that `tracking_uri` names, to its own files.

    Raises FatescopeError as `repair` does.
    """
    database = own_database(folder, tracking_uri)
    if database is not None and (misplaced := find_misplaced(database)):
        repair(database)
        places = plural.count(len(misplaced), "place of artifacts is", "places of artifacts are")
        log.warning("%s was moved or copied; %s put right", database, places)


def _misplaced(connection: sqlite3.Connection, here: Path) -> Iterator[Misplaced]:
    for table, column in COLUMNS:
        if column not in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}:
            continue
        paths = connection.execute(f"SELECT DISTINCT {column} FROM {table} ORDER BY 1").fetchall()  # noqa: S608  of COLUMNS
        for (before,) in paths:
            after = _place(before or "", here, owns=table == "experiments")
            if after is not None:
                yield Misplaced(table, column, before, after)


def _place(before: str, here: Path, *, owns: bool) -> str | None:
    """Return where a path should lead, below the folder `here`; None for one that is in place.

    `owns`: new files will be written there, as those of an experiment are.
    """
    path = url2pathname(urlparse(before).path) if before.startswith("file:") else before
    match = re.fullmatch(rf"(/.*/{FOLDER})((?:/.*)?)", path, re.DOTALL)
    if match is None or _is_same(Path(match[1]), here):
        return None
    former, rest = Path(match[1]), match[2].lstrip("/")
    # A copy of another project, without the files: what it writes from now on is its own all the same.
    copied = owns and (former.parent / DATABASE).is_file()
    if not copied and not (here / rest).exists() and (former / rest).exists():
        return None
    return (here / rest).as_uri() if before.startswith("file:") else str(here / rest)


def _is_same(one: Path, other: Path) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)
