"""What Prometheus is told of; BentoML serves it at `/metrics`, summed over processes."""

from prometheus_client import Counter, Gauge, Histogram

CELLS = Counter("fatescope_cells", "Cells that were classified.", ["task", "label", "verdict"])
REFUSED = Counter("fatescope_refused", "Files and requests that were refused, by code.", ["code"])
WAITING = Gauge(
    "fatescope_waiting_cells", "Decoded cells that wait for the runner.", ["task"], multiprocess_mode="livesum"
)
BATCH = Histogram(
    "fatescope_batch_cells", "Cells in a call to the runner.", ["task"], buckets=[1, 2, 4, 8, 16, 32, 64, 128, 256]
)
SWAPS = Counter("fatescope_swaps", "New champions, by what became of them: serving or refused.", ["task", "outcome"])
