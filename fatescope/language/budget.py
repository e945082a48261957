"""How much may be spent on a language model: requests, tokens and money."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from fatescope import plural
from fatescope.errors import FatescopeError
from fatescope.language.settings import LanguageSettings, variable

MILLION = 1_000_000
DAY_S = 86_400.0


class BudgetSpentError(FatescopeError):
    """Nothing more may be spent; what was answered before stays."""


@dataclass(frozen=True)
class Spent:
    """What was spent so far."""

    requests: int = 0
    tokens: int = 0
    cost: float = 0.0


class Budget:
    """Counts what one process spends; several threads may share it.

    A request is admitted only if what it may use at most in its answer still fits, so that no limit is exceeded by
    more than the prompts of the requests that are under way.
    """

    def __init__(
        self, settings: LanguageSettings, period_s: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`period_s` seconds after its first request, a budget begins anew; None, never."""
        self._settings, self._period_s, self._clock = settings, period_s, clock
        self._lock = threading.Lock()
        self._spent, self._reserved, self._began = Spent(), 0, clock()

    @property
    def spent(self) -> Spent:
        """Return what was spent so far, in the current period."""
        return self._spent

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the price of tokens; 0 where no price is set."""
        rates = self._settings.price_in or 0.0, self._settings.price_out or 0.0
        return (prompt_tokens * rates[0] + completion_tokens * rates[1]) / MILLION

    def admit(self, max_tokens: int) -> None:
        """Count a request that answers with `max_tokens` at most; raises BudgetSpentError where it does not fit."""
        limits = self._settings
        with self._lock:
            self._begin_anew()
            spent, reserved = self._spent, self._reserved + max_tokens
            if spent.requests >= limits.max_requests:
                requests = plural.count(spent.requests, "request was", "requests were")
                raise self._exceeded(f"{requests} sent", "max_requests")
            if spent.tokens + reserved > limits.max_tokens:
                raise self._exceeded(f"{plural.count(spent.tokens, 'token was', 'tokens were')} used", "max_tokens")
            if limits.max_cost is not None and spent.cost + self.cost(0, reserved) > limits.max_cost:
                raise self._exceeded(f"{spent.cost:.4g} was spent", "max_cost")
            self._spent = Spent(spent.requests + 1, spent.tokens, spent.cost)
            self._reserved = reserved

    def settle(self, max_tokens: int, prompt_tokens: int, completion_tokens: int) -> float:
        """Replace what `admit` set aside by what was used; return its price."""
        price = self.cost(prompt_tokens, completion_tokens)
        with self._lock:
            self._reserved -= max_tokens
            spent = self._spent
            self._spent = Spent(spent.requests, spent.tokens + prompt_tokens + completion_tokens, spent.cost + price)
        return price

    def _begin_anew(self) -> None:
        if self._period_s is not None and self._clock() - self._began >= self._period_s:
            self._spent, self._began = Spent(), self._clock()

    def _exceeded(self, what: str, limit: str) -> BudgetSpentError:
        begins = "" if self._period_s is None else f" in {self._period_s / 3600:g} h"
        return BudgetSpentError(
            f"the budget of the language model is used up: {what}{begins}, and {variable(limit)} is "
            f"{getattr(self._settings, limit):,}; what was answered before is kept, raise the limit to go on"
        )
