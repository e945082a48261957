"""How well the class follows from what files of the instrument say of the acquisition, without any pixel.

Facts of an acquisition group are the same for all its cells, or nearly, so that a fact is judged by cells of other
groups where classes have enough of these: what then predicts the class is a habit, such as one medium always being run
at a higher lamp. Facts are reported and not held against a pair of classes, because a network does not see them.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from fatescope.config import Audit
from fatescope.data.acquisition_facts import PREFIX, without_repetition
from pipelines.evaluation import acquisition
from pipelines.evaluation.audit_report import BalancedAccuracy, FactAudit
from pipelines.evaluation.audit_sample import AuditSample
from pipelines.evaluation.confounding import Floats, cramers_v

CATEGORIES = ("instrument", "software", "date")
IDENTITIES = ("run", "object", "acquired_object")
"""These name a cell or its group, and do not describe them."""
ALL = "all facts"
_TRACES = ("saturated", "background_sd", "mask_area", "mask_spread", "mask_clipped")
"""These are of the cell, or may hold a trace of it."""
_MAX_CATEGORIES = 50


def audit_facts(sample: AuditSample, manifest: pd.DataFrame, params: Audit) -> dict[str, FactAudit]:
    """Return fact → what it alone predicts; `manifest` has the rows of the cells of `sample`.

    Empty where files say nothing. Beside each fact, ALL has what they predict together.
    """
    audits, varied = dict[str, FactAudit](), list[Floats]()
    for name, column in read_facts(manifest).items():
        different = int(column.nunique())
        described = _describe(name, column)
        varied += [described] if different > 1 else []
        audits[name] = FactAudit(
            kind="category" if name in CATEGORIES else "number",
            known=float(column.notna().mean()),
            distinct=different,
            cramers_v=_association(sample, column) if name in CATEGORIES else None,
            accuracy=_predict(sample, described, params) if different > 1 else {},
        )
    if len(varied) > 1:
        together = np.concatenate(varied, axis=1)
        different = len(np.unique(together, axis=0))
        audits[ALL] = FactAudit(
            kind="number", known=1.0, distinct=different, accuracy=_predict(sample, together, params)
        )
    return audits


def read_facts(manifest: pd.DataFrame) -> dict[str, "pd.Series[float]"]:
    """Return fact → its value for each cell, of those facts that files say; a date is the day alone."""
    columns = without_repetition(manifest, [name for name in manifest.columns if name.startswith(PREFIX)])
    facts = {name.removeprefix(PREFIX): manifest[name] for name in columns}
    # A column without any value has no type of its own.
    facts = {
        name: column for name, column in facts.items() if name not in (*IDENTITIES, *_TRACES) and column.notna().any()
    }
    if "date" in facts:
        # The time of day of each object is its order in the run.
        facts["date"] = facts["date"].str.split().str[0]
    return facts


def _describe(name: str, column: "pd.Series[float]") -> Floats:
    """Return a fact as (N, F) numbers: a column for each of the most frequent categories, NaN for unknown numbers."""
    if name not in CATEGORIES:
        return column.to_numpy(float)[:, None]
    common = column.value_counts().index[:_MAX_CATEGORIES]
    values: npt.NDArray[np.float64] = np.stack([(column == value).to_numpy(float) for value in common], axis=1)
    return values


def _predict(sample: AuditSample, described: Floats, params: Audit) -> dict[str, BalancedAccuracy]:
    schemes = list(sample.schemes())
    predicted = acquisition.predict(sample, [(described, scheme, "boosting") for scheme in schemes], params)
    return {scheme: acquisition.score(sample, found) for scheme, found in zip(schemes, predicted, strict=True)}


def _association(sample: AuditSample, column: "pd.Series[float]") -> float:
    """Return Cramér's V of a fact with the class; 0 where all cells have one value."""
    if column.nunique() < 2:
        return 0.0
    return cramers_v(pd.crosstab(sample.labels, column.fillna("unknown").to_numpy()).to_numpy())
