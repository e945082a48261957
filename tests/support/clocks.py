"""Clocks that tests set, so that nothing sleeps and no result depends on the machine."""


class TickingClock:
    """A clock that moves on by `tick_s` with every reading."""

    def __init__(self, tick_s=1.0):
        self.now_s, self.tick_s = 0.0, tick_s

    def __call__(self):
        self.now_s += self.tick_s
        return self.now_s
