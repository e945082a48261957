"""Endpoints about keys and the audit log."""

from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field

from fatescope import audit_log
from fatescope.audit_log import AuditLogError
from service.api.access import KEY_NAME
from service.api.state import state_of
from service.inference.errors import RequestError, Schema

router = APIRouter(tags=["access"])


class KeyResponse(Schema):
    """What a key may do, and how much of it was used."""

    name: str
    scopes: list[str]
    requests: int | None = Field(description="Requests that it may send in a period; null for any number.")
    cells: int | None = Field(description="Cells that may be classified for it in a period; null for any number.")
    period_s: int = Field(description="Length of a period in seconds.")
    requests_used: int = Field(description="In the current period.")
    cells_used: int
    expires: float | None = Field(description="When it ends, seconds since the epoch; null for never.")


class AuditEntry(Schema):
    """An entry of the audit log."""

    seq: int
    time: str
    who: str
    what: str
    subject: Any
    evidence: Any
    previous: str
    hash: str


@router.get("/key")
def describe_key(request: Request) -> KeyResponse:
    """Say what the key of this request may do, and what is left of its quota."""
    state, name = state_of(request.scope), request.scope.get(KEY_NAME, "")
    found = state.access.describe(name)
    if found is None:
        raise RequestError(404, "no_key", "this service asks for no key, or was opened with a link")
    key, requests, cells = found
    return KeyResponse(
        name=key.name,
        scopes=sorted(key.scopes),
        requests=key.requests,
        cells=key.cells,
        period_s=key.period_s,
        requests_used=requests,
        cells_used=cells,
        expires=key.expires,
    )


@router.get("/audit_log")
def show_audit_log(
    request: Request,
    after: Annotated[int, Query(ge=0, description="Entries behind this number alone.")] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Most entries in an answer.")] = 1000,
) -> list[AuditEntry]:
    """Return entries of the audit log of this machine, the oldest first; needs a key with the scope admin."""
    folder = state_of(request.scope).audit.folder
    if folder is None:
        raise RequestError(404, "no_audit_log", "this service keeps no audit log")
    try:
        return [AuditEntry(**vars(entry)) for entry in islice(audit_log.read(folder, after), limit)]
    except AuditLogError as error:
        raise RequestError(503, "audit_log", str(error)) from error
