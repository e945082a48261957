"""What is said of environment variables that are wrong, for the settings of every program."""

import re
from collections.abc import Callable, Collection, Mapping

from pydantic import ValidationError
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
