"""How Matplotlib draws: into files, with text as it stands."""

import matplotlib as mpl


def prepare() -> None:
    """Draw without a display, and show `$` in the name of a class as what it is, not as the beginning of a formula."""
    mpl.use("Agg")
    mpl.rcParams["text.parse_math"] = False
