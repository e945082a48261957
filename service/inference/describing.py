"""Describe cultures for requests: from the figures of their answers, by a language model where one is set up."""

import logging
import threading
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Self

from fatescope.errors import FatescopeError
from fatescope.inference.bundle import Spec
from fatescope.language.budget import DAY_S, Budget
from fatescope.language.client import Client, EndpointError
from fatescope.language.culture import Culture, Share, Shift
from fatescope.language.describe import Description, by_template, describe
from fatescope.language.settings import LanguageSettings
from service.inference.results import CellCountsDict, ShareDict
from service.inference.summary import feature_for_people

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

AT_ONCE = 2
"""Descriptions that a process asks a model for at a time; further ones are written by the template at once."""
LONGEST_S = 20.0
"""Longest answer that is waited for: a request gets no more than a minute, and a model may try twice."""

_REASONS = {
    "unreachable": "it cannot be reached",
    "timeout": "it took too long",
    "busy": "it is busy",
    "refused": "it refused the request",
    "malformed": "its answer cannot be read",
}
"""Codes of EndpointError → what users are told."""


class Describer:
    """Describes cultures within the day's budget; several threads may share it."""

    def __init__(self, client: Client | None) -> None:
        self._client, self._turns = client, threading.BoundedSemaphore(AT_ONCE)

    @classmethod
    def from_environment(cls) -> Self:
        """Make one that asks the endpoint of the environment, if there is one; raises ParamsError."""
        settings = LanguageSettings.read()
        if settings.url is None:
            return cls(None)
        # Who waits is answered by the template sooner than by another try.
        brief = settings.model_copy(update={"timeout_s": min(settings.timeout_s, LONGEST_S), "tries": 1})
        return cls(Client(brief, Budget(brief, DAY_S)))

    def describe(self, culture: Culture) -> Description:
        """Describe a culture."""
        if self._client is None:
            return describe(culture, None)
        if not self._turns.acquire(blocking=False):
            return by_template(culture, "the language model is busy with others; ask again later", self._client.model)
        try:
            return describe(culture, self._client, _explain)
        finally:
            self._turns.release()

    def close(self) -> None:
        """Close the connections to the endpoint."""
        if self._client:
            self._client.close()


def _explain(error: FatescopeError) -> str:
    """Log why there is no answer, and return what users are told.

    The message is for who runs the service: it names addresses and settings, and may quote what the endpoint said.
    """
    log.warning("no description by the language model: %s", error)
    return _REASONS[error.code] if isinstance(error, EndpointError) else "its budget is used up"


@dataclass(frozen=True)
class Images:
    """What was found of the images of a culture beside their cells."""

    shifts: Sequence[tuple[str, float, float]] | None = None
    """Features in which they differ from the training images, with the medians here and there; None where nothing
    looked."""
    lossy: int = 0
    unusual: int = 0
    """Images of a size that the model was not trained on."""
    followed: int | None = 0
    """Cells with several images; None where nothing put them together."""


def is_unusual(warnings: Set[str]) -> bool:
    """Return whether the codes of the warnings about a cell say that the model was not trained on its size."""
    return bool(warnings & {"size", "cut"})


def culture_of(counts: CellCountsDict, spec: Spec, images: Images, *, excluded: bool) -> Culture:
    """Return the figures of a culture from its counts; `excluded`: whether cells outside the gates do not count."""
    return Culture(
        classes=tuple(spec.classes),
        cells=counts["cells"],
        sure=counts["sure"],
        unsure=counts["unsure"],
        unlike=counts["unlike_training"],
        composition=_shares(counts["composition"]),
        refused=counts["refused"],
        outside=counts["outside"],
        outside_reasons=counts["outside_reasons"],
        excluded=excluded,
        shifts=None
        if images.shifts is None
        else [Shift(feature_for_people(figure), here, known) for figure, here, known in images.shifts],
        lossy=images.lossy,
        unusual=images.unusual,
        followed=images.followed,
        simulated=spec.simulated,
        confounded=tuple(name for name in spec.classes if name in spec.confounded),
    )


def _shares(composition: Mapping[str, ShareDict] | None) -> dict[str, Share] | None:
    return None if composition is None else {name: Share(**share) for name, share in composition.items()}
