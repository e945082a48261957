"""Prometheus metrics of challengers; those of their process are summed with those of the gateways."""

from typing import Literal, get_args

from prometheus_client import Counter, Gauge, Histogram

State = Literal["absent", "starting", "running", "waiting", "refused", "given_up"]

STATE = Gauge(
    "fatescope_challenger_state",
    "Gateways whose challenger is absent, starting, running, waiting to be started again, refused, or given up.",
    ["task", "state"],
    multiprocess_mode="livesum",
)
RESTARTS = Counter(
    "fatescope_challenger_restarts", "Processes of challengers that ended, by reason: crashed or hung.", ["reason"]
)
DROPPED = Counter(
    "fatescope_challenger_dropped_cells",
    "Cells that were not compared, by reason: queue (it was full), failed, or bit_depth.",
    ["task", "version", "reason"],
)
COMPARED = Counter(
    "fatescope_challenger_cells",
    "Cells that champion and challenger answered, by whether the challenger's call was the same or another.",
    ["task", "version", "call"],
)
VERDICTS = Counter(
    "fatescope_challenger_verdicts",
    "Verdicts of the champion and of the challenger on the same cells.",
    ["task", "version", "champion_verdict", "verdict"],
)
DIVERGENCE = Histogram(
    "fatescope_challenger_divergence_ratio",
    "Half the sum of the differences of the probabilities of champion and challenger.",
    ["task", "version"],
    buckets=[0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1],
)
SECONDS = Histogram(
    "fatescope_challenger_cell_seconds",
    "Time of the processor that the challenger takes for a cell.",
    ["task", "version"],
    buckets=[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5],
)
LABELLED = Counter(
    "fatescope_challenger_labelled_cells",
    "Labelled cells, by which version was right: both, champion, challenger or neither.",
    ["task", "version", "right"],
)
EVIDENCE = Gauge(
    "fatescope_challenger_evidence",
    "Evidence of the labels that the challenger is better, or worse; a verdict from 40 on, however often it is read.",
    ["task", "version", "direction"],
    multiprocess_mode="livemax",
)
CANARY_SHARE = Gauge(
    "fatescope_canary_share",
    "Share of the requests to /classify that the challenger answers now.",
    ["task"],
    multiprocess_mode="livemin",
)
CANARY_REQUESTS = Counter(
    "fatescope_canary_requests",
    "Requests that were given to the challenger, by who answered them: challenger, or champion where it failed.",
    ["task", "version", "answered"],
)
TAKEN_BACK = Gauge(
    "fatescope_canary_taken_back",
    "1 where the share of a challenger was taken back, by reason: error, time, unlike or labels.",
    ["task", "version", "reason"],
    multiprocess_mode="livemax",
)


def publish_state(task: str, state: State) -> None:
    """Publish the state of the challenger of a task."""
    for name in get_args(State):
        STATE.labels(task, name).set(name == state)
