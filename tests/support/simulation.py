"""What to simulate for tests of simulated cells."""

from fatescope.config import Simulate
from pipelines.simulation.phenotypes import PAPER

SMALL = Simulate(
    seed=7,
    cells=52,
    media=dict.fromkeys(PAPER, 1.0),
    days=[1, 5],
    runs=3,
    marker_channels=2,
    darkfield=False,
    height=45,
    width=60,
    shortcut=0.0,
    focus_shift=0.0,
    noise_shift=0.0,
    gain_shift=0.0,
    junk=0.0,
    frames=1,
)  # 24 groups
