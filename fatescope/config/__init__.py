"""`params.yaml` as frozen typed objects, one model a section.

No field has a default: each value has one home, and that is `params.yaml`.
"""

from fatescope.config.data import Dataset, Ingest, Quality, Simulate, Split, Validation
from fatescope.config.evaluation import Audit, Evaluate
from fatescope.config.params import Params, load
from fatescope.config.production import Gate, Signable, Signature
from fatescope.config.section import Section
from fatescope.config.training import Calibrate, Ensemble, Pretrain, Train
from fatescope.config.tuning import INTEGERS, SEARCHABLE, Range, Tune

__all__ = [
    "INTEGERS",
    "SEARCHABLE",
    "Audit",
    "Calibrate",
    "Dataset",
    "Ensemble",
    "Evaluate",
    "Gate",
    "Ingest",
    "Params",
    "Pretrain",
    "Quality",
    "Range",
    "Section",
    "Signable",
    "Signature",
    "Simulate",
    "Split",
    "Train",
    "Tune",
    "Validation",
    "load",
]
