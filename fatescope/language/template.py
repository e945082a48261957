"""The description of a culture in plain sentences that need no language model.

The lead says what was found. The caveats say what makes it doubtful and what may not be concluded, and stand behind
every lead, whoever wrote it.
"""

from fatescope import plural
from fatescope.inference.comparison_sentences import cells_of, join
from fatescope.language.culture import REASONS, Culture, Share

_WIDE = 0.5
"""Width of an interval from which on it says next to nothing."""
_SHIFTS = 3
"""Differences from the training images that are named."""


def lead(culture: Culture) -> str:
    """Return what was found: the composition with its intervals, and how many cells it rests on."""
    return " ".join(filter(None, (_composition(culture), _counts(culture), _outside(culture))))


def caveats(culture: Culture) -> str:
    """Return what makes the figures doubtful, and what may not be concluded from them."""
    sentences = [*_left_out(culture), *_images(culture), *_model(culture)]
    if culture.named:
        sentences.append(
            "The shares are estimates from the appearance of the cells: they do not show which markers the cells have "
            "or how they function, and one culture does not tell what a treatment does."
        )
    return " ".join(sentences)


def percent(share: float) -> str:
    """Return a share in whole per cent, below 1 % with a decimal: `62 %`, `0.4 %`."""
    return f"{bare(share)} %"


def bare(share: float) -> str:
    """Return the same without the sign."""
    value = share * 100
    return f"{value:.1f}" if 0.05 <= value < 0.95 else f"{value:.0f}"


def _composition(culture: Culture) -> str:
    if culture.mostly_unlike:
        unlike = f"{culture.unlike:,} of {plural.count(culture.cells, 'cell')}"
        are = plural.agree(culture.unlike, "is", "are")
        return f"No composition is given, because {unlike} {are} unlike the training cells."
    if not culture.named:
        return "No composition is given, because no cell is left that counts in it."
    parts = [_share(name, share, first=not place) for place, (name, share) in enumerate(culture.named)]
    return f"About {join(parts)}."


def _share(name: str, share: Share, *, first: bool) -> str:
    of = " of the cells" if first else ""
    level = "95 % interval " if first else ""
    return (
        f"{percent(share.share)}{of} are {cells_of(name)} ({level}{bare(share.low)} to {percent(share.high)})"
        if share.low != share.high
        else f"{percent(share.share)}{of} are {cells_of(name)}"
    )


def _counts(culture: Culture) -> str:
    verdicts = [
        (culture.sure, "sure"),
        (culture.unsure, "unsure"),
        (culture.unlike, "unlike the training cells"),
    ]
    if culture.mostly_unlike:
        verdicts.pop()
    parts = join([f"{plural.count(number, 'is', 'are')} {what}" for number, what in verdicts])
    return f"Of {plural.count(culture.cells, 'classified cell')}, {parts}."


def _outside(culture: Culture) -> str:
    if not culture.outside:
        return ""
    reasons = [
        f"{plural.count(number, *_verbs(reason))} {REASONS[reason]}"
        for reason, number in (culture.outside_reasons or {}).items()
        if number and reason in REASONS
    ]
    named = f": {join(reasons)}" if reasons else ""
    return f"{plural.count(culture.outside, 'cell is', 'cells are')} outside the quality gates{named}."


def _verbs(reason: str) -> tuple[str, str]:
    return ("shows", "show") if reason == "doublet" else ("is", "are")


def _left_out(culture: Culture) -> list[str]:
    sentences = []
    if any(share.high - share.low >= _WIDE for _, share in culture.named):
        sentences.append(
            "Such wide intervals leave nearly everything possible: these cells do not tell the composition."
        )
    if culture.unlike and culture.named:
        sentences.append("Cells unlike the training cells do not count in the composition.")
    if culture.outside:
        fate = "do not count in it" if culture.excluded else "count in it like all others"
        sentences.append(f"Cells outside the quality gates {fate}.")
    if culture.followed is None:
        sentences.append("Several images of one cell count as so many cells.")
    elif culture.followed:
        cells = plural.count(culture.followed, "cell has", "cells have")
        it = plural.agree(culture.followed, "it", "each")
        sentences.append(
            f"{cells} several images: {it} counts once in the composition, and with every image in the numbers of "
            "cells."
        )
    if culture.refused:
        sentences.append(f"{plural.count(culture.refused, 'image')} could not be read.")
    return sentences


def _images(culture: Culture) -> list[str]:
    sentences = []
    if culture.shifts:
        named = "; ".join(
            f"{shift.name}, typically {_rounded(shift.here)} here and {_rounded(shift.known)} in training"
            for shift in culture.shifts[:_SHIFTS]
        )
        sentences.append(
            f"The images differ from the training images ({named}), as after a change of lamp, gain, focus or crop: "
            "the figures may be wrong until a sample of known composition confirms them."
        )
    elif culture.shifts is None:
        sentences.append("Whether the images differ from the training images was not measured here.")
    if culture.lossy:
        sentences.append(f"{plural.count(culture.lossy, 'image has', 'images have')} lost detail by lossy compression.")
    if culture.unusual:
        sentences.append(
            f"{plural.count(culture.unusual, 'image has', 'images have')} a size that the model was not trained on."
        )
    return sentences


def _model(culture: Culture) -> list[str]:
    sentences = []
    if culture.simulated:
        sentences.append(
            "The model was trained on simulated cells only, so that its results for real cells have no meaning."
        )
    if culture.confounded and culture.named:
        names = join([cells_of(name) for name in culture.confounded])
        sentences.append(f"How well it tells {names} in a run that it has not seen could not be tested.")
    return sentences


def _rounded(value: float) -> str:
    """Return a number with three significant digits, as the page writes it."""
    return f"{float(f'{value:.3g}'):,.10g}"
