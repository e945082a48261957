"""Reports of the pipeline: JSON files that one stage writes and others read, as typed objects."""

import json
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from fatescope.errors import DataError


class Report(BaseModel):
    """A report or a part of one: unknown fields, wrong types and later changes are refused.

    A field may be called otherwise in the file than in the code; the alias is then the name in the file.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
        validate_by_alias=True,
        validate_by_name=True,
    )

    def write(self, path: Path) -> None:
        """Write the report to the file `path`, whose folder is made where it is missing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        # By the standard library, which also writes NaN: a metric that is not defined for these cells.
        path.write_text(json.dumps(self.model_dump(), indent=2) + "\n", encoding="utf-8")

    def to_json(self) -> str:
        """Return the report as one line of JSON."""
        return json.dumps(self.model_dump())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote; raises DataError for any other file."""
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            reason = error.errors(include_url=False)[:3] if isinstance(error, ValidationError) else error
            raise DataError(f"{path}: not a report of this version ({reason}); run `dvc repro`") from error
