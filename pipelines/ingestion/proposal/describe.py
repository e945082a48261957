"""A proposal as text, for a person to say yes to."""

import difflib

from fatescope.config.editing import with_fields
from pipelines.ingestion.proposal.propose import Proposal


def describe(proposal: Proposal, params: str) -> str:
    """Return what was found, what a person should decide, and which lines of the text `params` change."""
    lines = ["Found:", *(f"  {line}" for line in proposal.sure)]
    if proposal.decide:
        lines += ["", "To decide, or to know:", *(f"  - {line}" for line in proposal.decide)]
    changed = with_fields(params, proposal.values, "params.yaml")
    diff = list(difflib.unified_diff(params.splitlines(), changed.splitlines(), n=0, lineterm=""))[2:]
    if diff:
        lines += ["", "Proposed for params.yaml:", *(f"  {line}" for line in diff if not line.startswith("@@"))]
    return "\n".join(lines)
