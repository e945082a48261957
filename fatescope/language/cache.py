"""Answers of a language model, kept in a folder that several processes may share.

`ab/abcd….json` is the answer to the question with that digest. A file is written whole or not at all, and never
changed: two processes that ask the same at the same time both pay, and either file is right.
"""

import json
import logging
from dataclasses import fields, replace
from pathlib import Path

from fatescope.atomic import replacing
from fatescope.language.chat import Answer

log = logging.getLogger(__name__)

_FIELDS = {field.name for field in fields(Answer)}


class AnswerCache:
    """Answers by the digest of their question."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, digest: str) -> Answer | None:
        """Return the answer to a question; None where there is none, or its file is damaged: it is asked again."""
        path = self._path(digest)
        try:
            return _read(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            log.warning("%s: cannot be used (%s); the model is asked again", path, error)
            return None

    def keep(self, digest: str, answer: Answer) -> None:
        """Keep an answer; where it cannot be written, the log says why, and nothing else is lost."""
        path = self._path(digest)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                part.write_text(json.dumps(answer.to_json()), encoding="utf-8")
        except OSError as error:
            log.warning("%s: an answer could not be kept (%s)", path, error.strerror or error)

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / f"{digest}.json"


def _read(text: str) -> Answer:
    """Return the answer in a file; raises ValueError or TypeError where it is not one."""
    content = json.loads(text)
    if not isinstance(content, dict) or content.keys() != _FIELDS or not isinstance(content["text"], str):
        raise ValueError("not an answer")
    return replace(Answer(**content), kept=True)
