"""How long to wait before something that failed is started again: longer each time, until it works."""

FIRST_S, LONGEST_S = 1.0, 60.0


class Backoff:
    """Doubles the wait from one failure to the next."""

    def __init__(self, longest_s: float = LONGEST_S) -> None:
        self._longest_s, self._next_s = longest_s, min(FIRST_S, longest_s)

    def wait_s(self) -> float:
        """Return the seconds to wait after one more failure."""
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, self._longest_s)
        return wait_s

    def reset(self) -> None:
        """Begin anew: it works."""
        self._next_s = min(FIRST_S, self._longest_s)
