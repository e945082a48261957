"""The gate as a change-control protocol: what may change in a model, how each change is tested, and who signs.

In the spirit of the predetermined change control plans of the FDA (Marketing Submission Recommendations for a
Predetermined Change Control Plan for Artificial Intelligence-Enabled Device Software Functions, 2024): a description of
the modifications, the protocol that each one passes, and what it may do. Every figure is that of `params.yaml` and of
the verdict on a version; nothing is decided here.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, get_args

from fatescope import plural
from fatescope.config import Params, Range, Signable
from pipelines.registry.gate import FIRST_GROUPS
from pipelines.registry.records import Verdict

Rule = Callable[[Params, str], str]


def _better(params: Params, _: str) -> str:
    gate = params.gate
    cheaper = (
        f", or the loss at most {gate.margin:g} where it takes fewer multiply-adds"
        if gate.accept == "not_worse_and_cheaper"
        else ""
    )
    return (
        "the lower end of the difference of balanced accuracy to the champion, on the same cells, is above 0"
        f"{cheaper}; {_percent(1 - gate.confidence)} of versions that are no better may pass, over all looks at the "
        "same test groups"
    )


RULES: dict[str, tuple[str, Rule]] = {
    "reproduces": ("always", lambda *_: "the exported graph gives the logits that are expected of its test tensors"),
    "audit": (
        "always",
        lambda params, _: (
            "no pair of classes is told apart by pixels that cannot contain the cell: the lower end of that area under "
            f"the ROC curve is below {params.audit.shortcut_auc:g}"
        ),
    ),
    "grouped": ("always", lambda *_: "it was tested on acquisition groups that it was not fitted on"),
    "informative": (
        "always",
        lambda params, task: (
            f"the lower bound of its balanced accuracy is above chance, {1 / len(params.classes(task)):.3f}"
        ),
    ),
    "baselines": (
        "always",
        lambda *_: "its balanced accuracy is above that of acquisition alone and of simple features of the cell",
    ),
    "replicates": (
        "where it was tested on groups, or there is a champion",
        lambda params, _: (
            f"each class has {params.gate.min_groups} test groups or more; {FIRST_GROUPS} for a first champion"
        ),
    ),
    "calibration": (
        "always",
        lambda params, _: f"its calibration error is at most {params.gate.max_calibration_error:g}",
    ),
    "better": ("where there is a champion", _better),
    "groups": (
        "where there is a champion",
        lambda params, _: (
            f"no acquisition group of {plural.count(params.gate.min_group_cells, 'test cell')} or more loses more than "
            f"{params.gate.max_group_fall:g} of its accuracy"
        ),
    ),
    "comparable": (
        "where the champion does not run",
        lambda *_: "never holds by itself: a champion that cannot be compared with is not replaced",
    ),
}
"""Criterion of the gate → when it is asked, and for what."""


@dataclass(frozen=True)
class Change:
    """Something that may change from one version to the next."""

    what: str
    within: str
    where: str
    """What it is set by."""


@dataclass(frozen=True)
class Test:
    """A criterion of the gate."""

    criterion: str
    asked: str
    asks: str
    signable: bool
    """Whether a person may lift it."""
    holds: bool | None = None
    """For the version that the protocol is about; None where it was not asked, or there is none."""
    detail: str | None = None


@dataclass(frozen=True)
class Protocol:
    """The protocol of a task, and what it said of a version."""

    task: str
    classes: list[str]
    changes: list[Change]
    fixed: list[Change]
    """What no change under this protocol may touch."""
    tests: list[Test]
    signed_off: dict[str, Any] | None
    """Who has lifted which criteria of the task, and why; None where nobody has."""
    version: str | None = None
    outcome: str | None = None
    """What became of that version: `champion`, `passed` or `refused`."""
    against: str | None = None
    """The champion that it was compared with."""

    def to_json(self) -> dict[str, Any]:
        """Return it as what JSON holds."""
        return asdict(self)


def draw_up(task: str, params: Params, verdict: Verdict | None = None) -> Protocol:
    """Return the protocol of a task, with the results of a version where there is a verdict; raises ParamsError."""
    signature = params.gate.signed_off.get(task)
    tests = []
    for name, (asked, rule) in RULES.items():
        criterion = verdict.criteria.get(name) if verdict else None
        result = (None, None) if criterion is None else (criterion.holds, criterion.detail)
        tests.append(Test(name, asked, rule(params, task), name in get_args(Signable), *result))
    return Protocol(
        task=task,
        classes=params.classes(task),
        changes=_changes(task, params),
        fixed=_fixed(task, params),
        tests=tests,
        signed_off=signature.model_dump() if signature else None,
        version=verdict.version if verdict else None,
        outcome=verdict.outcome if verdict else None,
        against=verdict.against if verdict else None,
    )


def _changes(task: str, params: Params) -> list[Change]:
    validation, split = params.validation, params.split
    changes = [
        Change(
            "training data",
            f"more cells of {', '.join(params.classes(task))}, read by the same pattern; at least "
            f"{validation.min_cells_per_class} of a class and {validation.min_cells_per_group} of an acquisition "
            f"group; at most {_percent(params.ingest.max_refused_share)} of the files refused, "
            f"{_percent(validation.max_bad_share)} of the cells of bad quality and "
            f"{_percent(validation.max_duplicate_share)} twice",
            "`fatescope data import`; the stages `ingest` and `validate` stop otherwise",
        ),
        Change(
            "test data",
            f"{_percent(split.test_share)} of new acquisition groups; a group that was ever tested on is never trained "
            "on",
            "`split`",
        ),
    ]
    if params.tune.trials:
        changes += [
            Change(f"`{name}` of the network and its training", _describe(values), f"`tune.space.{name}`")
            for name, values in params.tune.space.items()
        ]
    else:
        changes.append(Change("the network and its training", "nothing, because there is no search", "`tune.trials`"))
    return [
        *changes,
        Change("weights, temperature and thresholds", "what training and calibration make of all this", "`train`"),
        Change("the engine that runs the network", "any that reproduces the test tensors", "`FATESCOPE_ENGINE`"),
    ]


def _fixed(task: str, params: Params) -> list[Change]:
    data = params.dataset
    height, width = params.ingest.canvas
    channels = ", ".join(f"{kind} ({name})" for name, kind in (data.channels or {}).items()) or "the only one"
    return [
        Change("classes", ", ".join(params.classes(task)), f"`dataset.tasks.{task}`"),
        Change("what a label is", f"the value of `{data.label}` in the path of a file", "`dataset.label`"),
        Change("channels that the network sees", channels, "`dataset.channels`"),
        Change("canvas", f"{height} by {width} px", "`ingest.canvas`"),
        Change("acquisition groups", ", ".join(data.group), "`dataset.group`"),
        Change("the tests below", "their limits", "`gate`, `audit`"),
    ]


def _describe(values: Range | list[Any]) -> str:
    if isinstance(values, Range):
        return f"{values.low:g} to {values.high:g}"
    return ", ".join(
        " by ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value) for value in values
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
