"""Whether acquisition alone tells two classes apart."""

from dataclasses import asdict

import numpy as np

from fatescope.config import Audit
from pipelines.evaluation.acquisition import AcquisitionPrediction
from pipelines.evaluation.audit_report import STAGES, VERDICTS, Evidence, GroupEvidence, PairAudit, PairVerdict
from pipelines.evaluation.audit_sample import AuditSample
from pipelines.evaluation.confounding import CELL_FREE, Floats, kind_of
from pipelines.evaluation.group_audit import judge_groups
from pipelines.evaluation.intervals import LEVEL, auc_without, interval


def audit_pair(
    sample: AuditSample,
    predictions: list[AcquisitionPrediction],
    pair: tuple[str, str],
    params: Audit,
    by_channel: dict[str, dict[str, Floats]] | None = None,
) -> PairAudit:
    """Judge a pair of classes by the strongest lower bound, so that chance alone does not accuse it.

    `by_channel` is what `acquisition.predict_from_channels` returns.
    """
    confounded = not sample.grouped[np.isin(sample.labels, pair)].all()
    scheme = "random" if confounded else "grouped"
    by_group = {stage: judge_groups(sample, stage, pair, params) for stage in STAGES}
    raw, normalised = (
        max(
            (
                *(
                    _evidence(sample, prediction, pair, params)
                    for prediction in predictions
                    if (prediction.stage, prediction.scheme) == (stage, scheme) and not prediction.may_hold_cell
                ),
                # Only what accuses: a few groups are soon told apart, and more is asked of them.
                *(_plain(evidence) for evidence in by_group[stage] if evidence.verdict != "clean"),
            ),
            key=lambda evidence: (VERDICTS.index(evidence.verdict), evidence.at_least),
        )
        for stage in STAGES
    )
    return PairAudit(
        classes=list(pair),
        scheme=scheme,
        confounded=confounded,
        raw=raw,
        normalised=normalised,
        by_group={stage: evidence for stage, evidence in by_group.items() if evidence},
        channels={
            name: float(_areas(sample, probabilities, pair)[0])
            for name, probabilities in (by_channel or {}).get(scheme, {}).items()
        },
        verdict=raw.verdict,
        # Normalisation divides by the contrast of the cell, which puts a trace of the cell into its surroundings; but
        # it cannot add anything about acquisition that the raw pixels did not contain.
        verdict_normalised=min(raw.verdict, normalised.verdict, key=VERDICTS.index),
    )


def _evidence(sample: AuditSample, prediction: AcquisitionPrediction, pair: tuple[str, str], params: Audit) -> Evidence:
    units, areas = sample.units.among(np.isin(sample.labels, pair)), _areas(sample, prediction.probabilities, pair)
    # A verdict asks for one end alone, which is the lower one of an interval of twice the error.
    area, bound = interval(areas, units), interval(areas, units, level=2 * LEVEL - 1).low
    return Evidence(
        description=prediction.description,
        model=prediction.model,
        **asdict(area),
        lower_bound=bound,
        verdict=_verdict(prediction.description, bound, params),
    )


def _areas(sample: AuditSample, probabilities: Floats, pair: tuple[str, str]) -> Floats:
    """Return the area under the ROC curve of (N, K) probabilities for a pair: of all units, then without each."""
    rows = np.isin(sample.labels, pair)
    columns = [int(np.searchsorted(sample.classes, name)) for name in pair]
    one, other = probabilities[rows][:, columns].T
    scores = one / np.maximum(one + other, 1e-12)
    return auc_without(scores, sample.labels[rows] == pair[0], sample.units.among(rows))


def _plain(evidence: GroupEvidence) -> Evidence:
    return Evidence.model_validate(evidence.model_dump(include=set(Evidence.model_fields)))


def _verdict(description: str, low: float, params: Audit) -> PairVerdict:
    if low >= params.shortcut_auc and kind_of(description) in CELL_FREE:
        return "shortcut"
    return "suspect" if low >= params.suspect_auc else "clean"
