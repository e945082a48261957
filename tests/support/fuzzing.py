"""Drawn inputs: the same ones in every run of `make test`, new ones in `make fuzz`, and those that once failed.

`tests/corpus/KIND` has inputs that some reader once failed on, or that were written by hand because one might; all
were made up here. `make fuzz` adds to it. `tests/corpus/reached` has what the guided fuzzer kept (`make fuzz GUIDED=1
KEEP=1`) because it reaches code that no other input does: no reader has failed on it.
"""

import os
from contextlib import contextmanager

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis.internal.conjecture import providers

from tests.support.project import ROOT

SEED = os.environ.get("FATESCOPE_FUZZ")
"""The seed of `make fuzz` (`tests/fuzz.py`); None in all other runs."""
ROUND = 5
"""How many times as many inputs as in `make test` are drawn for a seed."""
CORPUS = ROOT / "tests/corpus"

# Hypothesis draws constants of all modules that are loaded, and those depend on which tests have run before.
providers._get_local_constants = providers.Constants


def settings(max_examples):
    """Return the settings of a test that draws so many inputs, which depend on nothing but its source."""
    phases = [Phase.explicit, Phase.generate]
    return hypothesis.settings(
        max_examples=max_examples * ROUND if SEED else max_examples,
        deadline=None,
        derandomize=not SEED,
        database=None,
        phases=[*phases, Phase.shrink] if SEED else phases,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def kept(raw, kind):
    """Add `raw` to the corpus if the block fails in `make fuzz`; Hypothesis tries the smallest of a seed last."""
    try:
        yield
    except Exception:
        if SEED:
            (CORPUS / kind).mkdir(parents=True, exist_ok=True)
            (CORPUS / kind / f"seed-{SEED}").write_bytes(raw)
        raise


def corpus(kind):
    """Return the inputs of a kind in the corpus."""
    return sorted(path for path in (CORPUS / kind).iterdir() if path.is_file())
