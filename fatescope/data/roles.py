"""The roles of samples, which a comparison needs: condition, replicate, day, dose and donor, as names spell them.

The page reads the same roles, `service/page/roles.js`; `tests/page/roles.json` holds both to the same answers.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

_NUMBER = r"[0-9]+(?:[.,][0-9]+)?"
_BEGIN, _END = r"(?<![^\W_])", r"(?![^\W_])"
_GAP = "[ _.-]*"
# A number is not the end of a longer one, as in 0.5 µM.
_NUMBER_BEGIN = _BEGIN + "(?<![0-9][.,])"
_UNIT = f"[pnuµμm]M|[pnuµμm]g(?:{_GAP}(?:/|per|p)?{_GAP}ml)?|%"


def _word(pattern: str, flags: re.RegexFlag = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile(_BEGIN + pattern + _END, flags)


def _measure(pattern: str, flags: re.RegexFlag = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile(_NUMBER_BEGIN + pattern, flags)


_DONOR = _word(f"(?:donor|patient|subject|animal){_GAP}([a-z]{{0,3}}[0-9]+[a-z]?|[a-z]{{1,2}})")
_DAY_AND_REPLICATE = (_word("([0-9]+)d([0-9]+)", re.RegexFlag(0)), _word("d(?:ay)?([0-9]+)r(?:ep)?([0-9]+)"))
_DAYS = (
    (_word(f"(?:days?|div|tag|d){_GAP}({_NUMBER})"), 1.0),
    # A large D after a number is a dimension: 3D culture.
    (_measure(f"({_NUMBER}){_GAP}(?:days?|div|d){_END}", re.RegexFlag(0)), 1.0),
    (_measure(f"({_NUMBER}){_GAP}(?:hours?|hrs?|h){_END}"), 1 / 24),
    (_word(f"(?:weeks?|wk){_GAP}({_NUMBER})"), 7.0),
    (_measure(f"({_NUMBER}){_GAP}(?:weeks?|wk|w){_END}"), 7.0),
)
_DOSE, _PLAIN_DOSE = _measure(f"({_NUMBER}){_GAP}({_UNIT}){_END}"), _word(f"dose{_GAP}({_NUMBER})")
_REPLICATES = (
    _word(f"(?:replicates?|repl?|run|exp|batch){_GAP}([0-9]+|[a-z])"),
    _word("r([0-9]+)"),
    re.compile(rf"#([0-9]+){_END}"),
    re.compile(r"\(([0-9]+)\)"),
)
# Words that are numbered for their replicates; others, as NT3, have numbers of their own.
_NUMBERED = _word(f"(control|ctrl|ctl|treated|untreated|vehicle|dmso|mock|wt|ko){_GAP}([0-9]+)")
_LAST_NUMBER = re.compile(r"(?:^|[/_\s,;-])([0-9]{1,3})[/_\s,;-]*\Z")
_SEPARATORS = re.compile(r"^[/\\_\s,;.-]+|[/\\_\s,;.-]+\Z")
_PLAIN_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?", re.IGNORECASE)
_REMOVED = "\0"
_FACTORS = {"p": 1e-3, "n": 1.0, "µ": 1e3, "m": 1e6}
"""Prefix of a unit → how many of the unit with n it is."""


@dataclass(frozen=True)
class Roles:
    """What a sample is in the experiment; None, and an empty condition, where nothing says so."""

    condition: str = ""
    replicate: str | None = None
    day: float | None = None
    dose: float | None = None
    unit: str | None = None
    """Of the dose."""
    donor: str | None = None


class _Name:
    """What is left of a name."""

    def __init__(self, name: str) -> None:
        self.rest = unicodedata.normalize("NFC", name).replace("\\", "/")

    def take(self, pattern: re.Pattern[str], keep: int | None = None) -> re.Match[str] | None:
        """Remove what `pattern` finds first, but its group `keep`."""
        match = pattern.search(self.rest)
        if match:
            kept = "" if keep is None else match[keep]
            self.rest = self.rest[: match.start()] + kept + _REMOVED + self.rest[match.end() :]
        return match


def read_roles(name: str) -> Roles:
    """Return the roles that the name of a sample spells; the condition is what is left of it."""
    left = _Name(name)
    donor = left.take(_DONOR)
    dose, unit = _read_dose(left)
    day, replicate = _read_day(left)
    if replicate is None:
        replicate = _read_replicate(left)
    pieces = [_SEPARATORS.sub("", piece) for piece in left.rest.split(_REMOVED)]
    return Roles(" ".join(filter(None, pieces)), replicate, day, dose, unit, donor and donor[1])


def to_number(text: str) -> float | None:
    """Return a number as people write it, with a point or a comma; None where it is none."""
    plain = text.strip().replace(",", ".", 1)
    return float(plain) if _PLAIN_NUMBER.fullmatch(plain) else None


def to_unit(text: str) -> str:
    """Return the unit of a dose in one spelling: µM, ng, ng/ml, %."""
    plain = unicodedata.normalize("NFKC", text).replace("μ", "µ")
    if plain == "%":
        return plain
    prefix = plain[0].lower().replace("u", "µ")
    if re.fullmatch(".m", plain, re.IGNORECASE):
        return f"{prefix}M"
    return f"{prefix}g/ml" if plain.lower().endswith("l") else f"{prefix}g"


def in_one_unit(roles: Sequence[Roles]) -> list[Roles]:
    """Return roles whose doses are in one unit, the smallest that is named; a dose of zero needs none.

    No dose is left where units do not compare, as µM and ng/ml.
    """
    units = list(dict.fromkeys(role.unit for role in roles if role.dose is not None and role.unit))
    if not units:
        return list(roles)
    unnamed = any(role.dose and not role.unit for role in roles)
    if unnamed or len({_kind(unit) for unit in units}) > 1:
        return [replace(role, dose=None, unit=None) for role in roles]
    least = min(units, key=_factor)
    return [
        replace(role, unit=least)
        if role.dose is None
        else replace(role, dose=significant(role.dose * _factor(role.unit or least) / _factor(least)), unit=least)
        for role in roles
    ]


def significant(value: float) -> float:
    """Round away what the conversion of a unit leaves behind."""
    return float(f"{value:.12g}")


def _kind(unit: str) -> str:
    return unit if unit == "%" else unit[1:]


def _factor(unit: str) -> float:
    return _FACTORS.get(unit[0], 1.0)


def _read_dose(left: _Name) -> tuple[float | None, str | None]:
    if match := left.take(_DOSE):
        return to_number(match[1]), to_unit(match[2])
    plain = left.take(_PLAIN_DOSE)
    return plain and to_number(plain[1]), None


def _read_day(left: _Name) -> tuple[float | None, str | None]:
    for pattern in _DAY_AND_REPLICATE:
        if match := left.take(pattern):
            return float(match[1]), _plain(match[2])
    for pattern, days in _DAYS:
        if match := left.take(pattern):
            return significant(float(match[1].replace(",", ".")) * days), None
    return None, None


def _read_replicate(left: _Name) -> str | None:
    for pattern in _REPLICATES:
        if match := left.take(pattern):
            return _plain(match[1])
    if match := left.take(_NUMBERED, keep=1):
        return _plain(match[2])
    last = left.take(_LAST_NUMBER)
    return last and _plain(last[1])


def _plain(text: str) -> str:
    """Return a number without leading zeros, and other texts as they are."""
    return str(int(text)) if text.isdigit() else text
