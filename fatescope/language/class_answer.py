"""The class that a language model names, and how probable each is by its own account.

A model of text is asked for one name out of a list. What it writes is read as that name and nothing else: an answer
that names none, or several, is none. Where the endpoint gives log probabilities of the first token, each class gets
those of the tokens that begin its name and no other's.
"""

import math
import re
from collections.abc import Sequence

from fatescope.language.chat import Answer

_EDGES = " \t\r\n.,;:!\"'`*()[]"


def named(text: str, classes: Sequence[str]) -> str | None:
    """Return the class that a text names; None where it names none, or more than one.

    Case does not matter, nor a plural s. A name within a longer one does not count: of `NT3` and `NT3 late`, a text
    with the latter names the latter.
    """
    found, rest = set[str](), text
    for name in sorted(classes, key=len, reverse=True):
        rest, count = re.subn(rf"(?<!\w){re.escape(name)}s?(?!\w)", " ", rest, flags=re.IGNORECASE)
        if count:
            found.add(name)
    return found.pop() if len(found) == 1 else None


def probabilities(answer: Answer, classes: Sequence[str]) -> list[float] | None:
    """Return the probability of each class by the first token of an answer, in the order of `classes`.

    None where the endpoint gives no log probabilities, or where the first tokens do not tell the classes apart.
    """
    if answer.first is None:
        return None
    mass = dict.fromkeys(classes, 0.0)
    for token, logprob in answer.first.items():
        start = token.strip(_EDGES + "\u2581\u0120").casefold()
        begun = [name for name in classes if start and name.casefold().startswith(start)]
        if len(begun) == 1:
            mass[begun[0]] += math.exp(logprob)
    total = sum(mass.values())
    # A token that begins no name, or several, says nothing: with half the mass in such, the rest would be made up.
    if total < 0.5:
        return None
    return [mass[name] / total for name in classes]
