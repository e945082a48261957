"""Named API keys: the file that `FATESCOPE_KEYS` names, which `fatescope keys new NAME` writes.

It is JSON, `{"keys": [{"name", "sha256", "scopes", "requests", "cells", "per", "made", "expires"}]}`, and has hashes of
keys, never a key. `requests` and `cells` are quotas for each period `per`, null for none; `expires` is null for never.
"""

import fcntl
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from fatescope.atomic import replacing
from fatescope.errors import ParamsError

Scope = Literal["classify", "feedback", "teach", "download", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
Period = Literal["minute", "hour", "day"]
PERIODS_S: dict[str, int] = {"minute": 60, "hour": 3600, "day": 86_400}
NAME = r"[a-z0-9][a-z0-9_.-]{0,39}"
"""Names are labels of metrics, and are in logs and records: no names of people who must not be there."""
RESERVED = frozenset({"unknown", "link"})
"""What requests without a key are called."""
MAX_KEYS = 500
"""In a file: each is a time series."""


class KeyEntry(BaseModel):
    """A key in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    requests: Annotated[int | None, Field(ge=1)] = None
    cells: Annotated[int | None, Field(ge=1)] = None
    per: Period = "day"
    made: AwareDatetime | None = None
    expires: AwareDatetime | None = None


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: Annotated[list[KeyEntry], Field(max_length=MAX_KEYS)]


@dataclass(frozen=True, slots=True)
class Key:
    """A key as requests are checked against it."""

    name: str
    digest: bytes
    """Its SHA-256."""
    scopes: frozenset[str]
    requests: int | None = None
    """Requests that it may send in a period, None for any number; `cells` are those that may be classified."""
    cells: int | None = None
    period_s: int = PERIODS_S["day"]
    expires: float | None = None
    """Seconds since the epoch."""

    @property
    def is_limited(self) -> bool:
        """Return whether it has a quota."""
        return self.requests is not None or self.cells is not None

    @classmethod
    def unnamed(cls, digest: bytes) -> "Key":
        """Return a key of `FATESCOPE_API_KEYS`, which may all that there was before there were scopes."""
        return cls(f"unnamed-{digest.hex()[:6]}", digest, frozenset({"classify", "feedback", "teach"}))

    @classmethod
    def of(cls, entry: KeyEntry) -> "Key":
        """Return the key of an entry of the file."""
        return cls(
            entry.name, bytes.fromhex(entry.sha256), frozenset(entry.scopes), entry.requests, entry.cells,
            PERIODS_S[entry.per], entry.expires.timestamp() if entry.expires else None,
        )  # fmt: skip


def read(path: Path) -> list[KeyEntry]:
    """Return the keys in a file; raises ParamsError with what is wrong, and never with a hash."""
    try:
        entries = _Content.model_validate_json(path.read_bytes()).keys
    except OSError as error:
        raise ParamsError(
            f"{path}: the file of keys cannot be read ({error.strerror}); `fatescope keys new NAME` makes it"
        ) from error
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, problem["loc"])) or "the file"
        raise ParamsError(f"{path}: {place}: {problem['msg']}; write it with `fatescope keys new NAME`") from error
    for field in ("name", "sha256"):
        values = [getattr(entry, field) for entry in entries]
        if len(set(values)) < len(values):
            raise ParamsError(f"{path}: two keys have one {field}; revoke one with `fatescope keys revoke NAME`")
    if reserved := RESERVED.intersection(entry.name for entry in entries):
        raise ParamsError(f"{path}: a key may not be called '{min(reserved)}'; requests without a key are")
    return entries


def add(path: Path, entry: KeyEntry) -> None:
    """Add a key to a file, which is made where there is none; raises ParamsError where the name is taken."""
    with _Locked(path):
        entries = read(path) if path.exists() else []
        if any(known.name == entry.name for known in entries):
            raise ParamsError(f"{path}: has a key '{entry.name}' already; revoke it first, or choose another name")
        _write(path, [*entries, entry])
        # As a service will.
        read(path)


def revoke(path: Path, name: str) -> None:
    """Remove a key from a file; raises ParamsError where it has none of that name."""
    with _Locked(path):
        entries = read(path)
        kept = [entry for entry in entries if entry.name != name]
        if len(kept) == len(entries):
            known = ", ".join(sorted(entry.name for entry in entries)) or "none"
            raise ParamsError(f"{path}: no key '{name}'; it has: {known}")
        _write(path, kept)


def make_entry(
    name: str,
    digest: str,
    scopes: Iterable[str],
    *,
    requests: int | None = None,
    cells: int | None = None,
    per: str = "day",
    expires: datetime | None = None,
) -> KeyEntry:
    """Return a checked entry; raises ParamsError."""
    if not re.fullmatch(NAME, name) or name in RESERVED:
        raise ParamsError(
            f"'{name}' cannot be the name of a key: up to 40 of a-z 0-9 _ . -, beginning with a letter or digit, and "
            f"not {' or '.join(sorted(RESERVED))}"
        )
    content = {
        "name": name, "sha256": digest, "scopes": tuple(scopes), "requests": requests, "cells": cells, "per": per,
        "made": datetime.now(UTC).replace(microsecond=0), "expires": expires,
    }  # fmt: skip
    try:
        return KeyEntry.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise ParamsError(f"{problem['loc'][0]}: {problem['msg']}") from error


class _Locked:
    """Keeps other commands from writing a file of keys."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f".{path.name}.lock")

    def __enter__(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _write(path: Path, entries: list[KeyEntry]) -> None:
    content = {"keys": [entry.model_dump(mode="json") for entry in entries]}
    with replacing(path) as part:
        part.touch(mode=0o600)
        # Whoever let a service of another user read the file has to keep that.
        with suppress(FileNotFoundError):
            part.chmod(path.stat().st_mode & 0o777)
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
