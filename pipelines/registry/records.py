"""What is kept of a version: the verdict of the gate, a rollback, and its line in the history."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

from pydantic import ConfigDict, SerializerFunctionWrapHandler, model_serializer

from pipelines.evaluation.report import Report

GATE, PARTS = "gate", "parts"
"""The tag of a verdict, and what it is called there of how many tags `gate.0`, `gate.1` … a longer one is in."""
GROUP = 12
"""Characters that the digest of a group takes in it."""


class Criterion(Report):
    """Whether one condition holds, in words, and the numbers that decided; those that do not apply are left out."""

    # Verdicts are kept as tags of versions, which later code must be able to read.
    model_config = ConfigDict(extra="ignore")

    holds: bool
    detail: str
    verdict: str | None = None
    """Of the audit."""
    value: float | None = None
    low: float | None = None
    """Ends of the interval of `value`."""
    high: float | None = None
    limit: float | None = None
    """What `value`, or an end of its interval, is compared with."""
    group: str | None = None
    """The acquisition group that `value` is about."""
    look: int | None = None
    """The how manieth comparison on these test groups this was."""
    groups: list[str] | None = None
    """Digests (`looks.digest`) of the test groups that were compared."""

    @model_serializer(mode="wrap")
    def _without_missing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {name: value for name, value in content.items() if value is not None}


class Verdict(Report):
    """The decision on one version: the content of `gate.json`, and of the tags `gate` of the version."""

    model_config = ConfigDict(extra="ignore")

    task: str
    model: str
    """Name of the registered model."""
    version: str
    criteria: dict[str, Criterion]
    champion: bool
    """Whether the version became the champion."""
    replaced: str | None
    """The version that was the champion before, if any."""
    compared: str | None
    """Why there was no comparison with a champion, where none was needed."""
    against: str | None = None
    """The champion that it had to be better than; None where there was none, or none was noted."""

    @model_serializer(mode="wrap")
    def _without_unknown(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {name: value for name, value in content.items() if name != "against" or value is not None}

    @property
    def failed(self) -> list[str]:
        """Return the names of the criteria that do not hold."""
        return [name for name, criterion in self.criteria.items() if not criterion.holds]

    @property
    def outcome(self) -> Literal["champion", "passed", "refused"]:
        """Return what became of the version: one that passed in an experiment is promoted by hand."""
        return "champion" if self.champion else "refused" if self.failed else "passed"

    def describe(self) -> str:
        """Return the outcome in words."""
        if self.outcome == "passed":
            return f"not champion, because this is an experiment; `fatescope models promote {self.task}` makes it so"
        return "champion" if self.champion else f"not champion; failed: {', '.join(self.failed)}"

    def to_evidence(self) -> dict[str, Any]:
        """Return what the audit log keeps of it: the numbers that decided, not the groups of cells."""
        criteria = {
            name: criterion.model_dump(
                mode="json", include={"holds", "value", "low", "high", "limit", "verdict", "look"}
            )
            for name, criterion in self.criteria.items()
        }
        return {"by": "gate", "replaced": self.replaced, "failed": self.failed, "gate": criteria}

    def to_tags(self, limit: int) -> dict[str, str]:
        """Return the tags of a version, of `limit` characters at most, that `from_tags` reads; the last is `gate`.

        Where the verdict is longer, `gate` has it with its texts cut, and the tags before it have all of it.
        """
        whole = self.to_json()
        if len(whole) <= limit:
            return {GATE: whole}
        parts = [whole[start : start + limit] for start in range(0, len(whole), limit)]
        count = {PARTS: len(parts)}
        short = json.loads(self.to_tag(limit - len(json.dumps(count))))
        return {f"{GATE}.{number}": part for number, part in enumerate(parts)} | {GATE: json.dumps(short | count)}

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> Self | None:
        """Return the verdict in the tags of a version, if it has one; with texts cut where a part of it is missing."""
        if GATE not in tags:
            return None
        parts = [tags.get(f"{GATE}.{number}") for number in range(json.loads(tags[GATE]).get(PARTS, 0))]
        return cls.model_validate_json("".join(filter(None, parts)) if parts and all(parts) else tags[GATE])

    def to_tag(self, limit: int) -> str:
        """Return the verdict as JSON of `limit` characters at most: texts are cut, long lists of groups left out."""
        content, longest = self.to_json(), limit
        while len(content) > limit and longest > 1:
            longest //= 2
            criteria = {
                name: criterion.model_copy(
                    update={
                        "detail": cut(criterion.detail, longest),
                        "group": cut(criterion.group, longest),
                        "groups": criterion.groups if len(criterion.groups or ()) * GROUP <= longest else None,
                    }
                )
                for name, criterion in self.criteria.items()
            }
            shorter = {"criteria": criteria, "compared": cut(self.compared, longest)}
            content = self.model_copy(update=shorter).to_json()
        return content


Text = TypeVar("Text", str, str | None)


def cut(text: Text, longest: int) -> Text:
    """Return the first characters of a text, `longest` at most, with … at the end of one that was longer."""
    return text if text is None or len(text) <= longest else f"{text[: longest - 1]}…"


class Promotion(Report):
    """Who made a version the champion whatever the gate had decided, when and why."""

    who: str
    when: str
    """ISO 8601, UTC."""
    why: str


class Rollback(Report):
    """Who took a version back as champion, when and why, and to which version."""

    who: str
    when: str
    """ISO 8601, UTC."""
    why: str
    to: str


@dataclass(frozen=True)
class VersionSummary:
    """A version as the history of the card lists it."""

    version: str
    created: str
    balanced_accuracy: str
    verdict: str
    """Of the gate: `champion`, `passed`, `refused` or `missing`."""
    note: str
