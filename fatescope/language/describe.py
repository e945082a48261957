"""A paragraph about a culture, by a language model where there is one, and by a template otherwise.

A model gets the figures of the answer and nothing else: no image, no name of a sample or file, and letters in the
place of class names. What it writes is shown only where every number of it is one of these figures
(`fatescope.language.check`); it may try once more with the reasons why not. Behind it stand the caveats of the
template, which no model writes.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fatescope.errors import FatescopeError
from fatescope.inference.comparison_sentences import cells_of
from fatescope.language import template
from fatescope.language.chat import Message, Question
from fatescope.language.check import check
from fatescope.language.client import Client
from fatescope.language.culture import REASONS, Culture, labels

MAX_TOKENS = 400
"""Longest answer: what is longer is not checked."""
_ATTEMPTS = 2
_RULES = """\
You describe the composition of a cell culture in two to four plain English sentences, as one paragraph without lists.
Classes of cells are called by their labels in square brackets, such as [A]; never give them another name.
Say of each class its share in per cent and its interval, as in: 62 % of the cells are [A] (95 % interval 55 to 69 %).
In another sentence, say how many cells were classified, and how many are sure, unsure and unlike the training cells.
Give each number a clause of its own, with the one thing that it is of. Write only numbers that you were given, round
nothing, calculate nothing. Do not judge, explain, compare, deny or conclude anything, and use simple words."""
_NO_MODEL = "no language model is set up"


@dataclass(frozen=True)
class Description:
    """A paragraph, and who wrote it."""

    text: str
    source: Literal["model", "template"]
    model: str | None
    """The model that wrote it, or that was asked in vain."""
    why: str | None
    """Why it is the template's; None where a model wrote it."""


def describe(culture: Culture, client: Client | None, explain: Callable[[FatescopeError], str] = str) -> Description:
    """Describe a culture; without a `client`, by the template. `explain` says why the client has no answer."""
    if client is None:
        return by_template(culture, _NO_MODEL)
    if not culture.named:
        return by_template(culture, "there is no composition for a model to describe")
    try:
        lead, why = _ask(culture, client)
    except FatescopeError as error:
        return by_template(culture, f"the language model gave no answer: {explain(error)}", client.model)
    if lead is None:
        return by_template(culture, f"what the language model wrote was not shown: {why}", client.model)
    return Description(f"{lead} {template.caveats(culture)}".strip(), "model", client.model, None)


def by_template(culture: Culture, why: str, model: str | None = None) -> Description:
    """Describe a culture by the template, and say why it is not a model."""
    text = f"{template.lead(culture)} {template.caveats(culture)}".strip()
    return Description(text, "template", model, why)


def _ask(culture: Culture, client: Client) -> tuple[str | None, str]:
    """Return what a model wrote, or None and the reason why it may not be shown."""
    messages = [Message("system", _RULES), Message("user", figures(culture))]
    why = ""
    for _ in range(_ATTEMPTS):
        answer = client.ask(Question(tuple(messages), MAX_TOKENS))
        problems = ["it is too long and breaks off"] if answer.cut else check(answer.text, culture)
        if not problems:
            return _with_names(answer.text, culture), ""
        why = why or problems[0]
        again = "Write it again. This was wrong:\n" + "\n".join(f"- {problem}" for problem in problems[:5])
        messages += [Message("assistant", answer.text[:2000]), Message("user", again)]
    return None, why


def figures(culture: Culture) -> str:
    """Return what a model is told of a culture: JSON of numbers, with labels in the place of names."""
    label = dict(zip(culture.classes, labels(culture.classes), strict=True))
    counts = {"classified": culture.cells, "sure": culture.sure, "unsure": culture.unsure}
    content: dict[str, object] = {
        "composition": {
            label[name]: {
                "share": template.percent(share.share),
                "95 % interval": f"{template.bare(share.low)} to {template.percent(share.high)}",
            }
            for name, share in culture.named
        },
        "cells": counts | {"unlike the training cells": culture.unlike},
    }
    if culture.outside:
        reasons = {REASONS[name]: number for name, number in (culture.outside_reasons or {}).items() if number}
        content["cells outside the quality gates"] = {"all": culture.outside, **reasons}
    return json.dumps(content, indent=1)


def _with_names(text: str, culture: Culture) -> str:
    """Return a text with the names of classes in the place of their labels."""
    called = dict(zip(labels(culture.classes), map(cells_of, culture.classes), strict=True))
    # In one pass, because a name may hold what looks like a label.
    text = re.sub(r"(\[[A-Z]+\])(?: cells)?", lambda found: called[found[1]], text)
    text = " ".join(text.split())
    return text[:1].upper() + text[1:]
