"""The figures of the answer about one culture: all that a description of it may say.

Names of samples and files are not among them, so that no name can tell a language model anything.
"""

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

REASONS = {
    "focus": "out of focus",
    "doublet": "more than one cell",
    "debris": "debris",
    "clipped": "cut off by the border",
    "saturated": "overexposed",
}
"""Why a cell is outside the gates of quality → what the page calls it."""
WORTH_NAMING = 0.005
"""Smallest share that is named beside the largest, as on the page."""
MAX_CLASSES = 200
_ROUNDING = 0.01
"""How far from 1 the sum of rounded shares may be."""
CANNOT_BE_RULED_OUT = 0.1
"""A smaller one is named too where its interval reaches as far."""


@dataclass(frozen=True)
class Share:
    """The share of a class, from 0 to 1, with its 95 % interval."""

    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Shift:
    """A feature in which the images differ from those of the training: its name, and both medians."""

    name: str
    here: float
    known: float


@dataclass(frozen=True)
class Culture:
    """What was answered about one culture."""

    classes: Sequence[str]
    cells: int
    """Classified cells: those below together."""
    sure: int
    unsure: int
    unlike: int
    """Cells unlike the training cells."""
    composition: Mapping[str, Share] | None
    """Class → its share; None where no cell counts."""
    refused: int = 0
    """Images that could not be read."""
    outside: int | None = None
    """Cells outside the gates of quality; None where the model has none, or nothing was judged."""
    outside_reasons: Mapping[str, int] | None = None
    """How many of them for each of REASONS; a cell may have several."""
    excluded: bool = False
    """Whether cells outside are left out of the composition."""
    shifts: Sequence[Shift] | None = None
    """In what the images differ from those of the training; None where nothing looked."""
    lossy: int = 0
    """Images that lost a part of their content before they were sent, such as JPEG."""
    unusual: int = 0
    """Images of a size that the model was not trained on."""
    followed: int | None = 0
    """Cells with several images, each of which counts as a cell but in the composition; None where nothing puts the
    images of a cell together, although the model was trained on such."""
    simulated: bool = False
    """Whether the model was trained on simulated cells."""
    confounded: Sequence[str] = ()
    """Classes that could not be tested on runs that the model had not seen."""

    @property
    def mostly_unlike(self) -> bool:
        """Return whether the shares of the few other cells would say nothing of the culture."""
        return self.unlike > self.cells / 2

    def contradiction(self) -> str | None:
        """Return in what the figures contradict each other, as those of a file or a request may; None where nowhere."""
        return next(self._contradictions(), None)

    def _contradictions(self) -> Iterator[str]:
        if self.sure + self.unsure + self.unlike != self.cells:
            yield "sure, unsure and unlike_training do not add up to cells"
        if max([self.outside or 0, *(self.outside_reasons or {}).values()]) > self.cells:
            yield "more cells are outside the gates than there are"
        if len(self.classes) > MAX_CLASSES or len(set(self.classes)) < len(self.classes):
            yield f"there are over {MAX_CLASSES} classes, or two of one name"
        if self.composition is None:
            return
        if self.cells == self.unlike:
            yield "there is a composition, but no cell that counts in it"
        if set(self.composition) != set(self.classes):
            yield f"composition: give the share of each of {', '.join(self.classes)}"
        if abs(sum(one.share for one in self.composition.values()) - 1) > _ROUNDING:
            yield "the shares of the composition do not add up to 1"
        if any(not one.low <= one.share <= one.high for one in self.composition.values()):
            yield "a share is outside its interval"

    @property
    def named(self) -> list[tuple[str, Share]]:
        """Return the classes that a description names, the largest share first; empty without a composition."""
        if self.composition is None or self.mostly_unlike:
            return []
        ordered = sorted(self.composition.items(), key=lambda item: -item[1].share)
        return [
            (name, share)
            for place, (name, share) in enumerate(ordered)
            if not place or share.share >= WORTH_NAMING or share.high >= CANNOT_BE_RULED_OUT
        ]


def labels(classes: Sequence[str]) -> list[str]:
    """Return what a text calls each class: `[A]`, ..., `[Z]`, `[AA]`, ...; it is never told their names."""
    letters = string.ascii_uppercase
    return [f"[{letters[i]}]" if i < 26 else f"[{letters[i // 26 - 1]}{letters[i % 26]}]" for i in range(len(classes))]
