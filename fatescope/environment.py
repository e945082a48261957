"""Environment variables for the settings of every program: what is said of wrong ones, and paths for other folders."""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from fatescope.errors import ParamsError

_LOGIN = re.compile(r"(?<=//)[^/@]*@")
"""What an address may hold of a name and a password."""


def wrong_variables(
    error: ValidationError,
    spell: Callable[[str], str],
    secret: Collection[str] = (),
    described: Mapping[str, FieldInfo] | None = None,
) -> ParamsError:
    """Return the error that says in a line each which fields of a settings object are wrong, and why.

    `spell` says where a field is set. The values of `secret` fields are not repeated, and neither is a login in an
    address. With `described` fields, a rule of pydantic's own is followed by what the field is.
    """
    lines = []
    for problem in error.errors(include_url=False):
        field, rule = str(problem["loc"][0]), problem["msg"].removeprefix("Value error, ")
        value = "" if field in secret else f"={_LOGIN.sub('…@', str(problem['input']))}"
        more = f". {described[field].description}" if described and problem["type"] != "value_error" else ""
        lines.append(f"{spell(field)}{value}: {rule[0].lower()}{rule[1:]}{more}")
    return ParamsError("\n".join(lines))


def absolute_paths(settings: BaseModel, spell: Callable[[str], str]) -> dict[str, str]:
    """Return variable → value for the paths in `settings`, so that a process in another folder reads the same ones.

    `spell` says where a field is set. Several paths of a field are separated by commas.
    """
    named = {}
    for field, value in settings:
        paths = (value,) if isinstance(value, Path) else value
        if isinstance(paths, tuple) and paths and all(isinstance(path, Path) for path in paths):
            named[spell(field)] = ",".join(str(path.absolute()) for path in paths)
    return named
