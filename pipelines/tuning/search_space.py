"""The search space: the fields of the section `train` that `tune.space` names, as parameters of Optuna."""

import json
from typing import Any

from optuna.trial import Trial

from fatescope.config import INTEGERS, Params, Range, Train, Tune
from fatescope.errors import ParamsError
from fatescope.networks.backbones import BACKBONES, smallest_side
from fatescope.networks.stems import SMALL

FIRST = ("backbone", "stem")
"""Drawn in this order before the others, because they decide which sizes are possible."""


def check(params: Params) -> None:
    """Raise ParamsError where a trial could draw a backbone that does not exist, or that takes none of the sizes."""
    space, train = params.tune.space, params.train.model_dump()
    allowed = {name: space.get(name, [train[name]]) for name in ("backbone", "stem", "input_size")}
    where = {name: f"{'tune.space' if name in space else 'train'}.{name}" for name in allowed}
    sizes = [size for size in allowed["input_size"] if isinstance(size, tuple)]
    for name in allowed["backbone"]:
        if name not in BACKBONES:
            raise ParamsError(f"{where['backbone']}: '{name}' is none of {sorted(BACKBONES)}")
        smallest = min(smallest_side(str(name), str(stem)) for stem in allowed["stem"])
        if all(min(size) < smallest for size in sizes):
            received = [list(size) for size in sizes]
            raise ParamsError(
                f"{where['input_size']}: {name} needs {smallest} px a side or more, got {received}; "
                f"add such a size to tune.space.input_size, or take {name} out of {where['backbone']}"
            )


def suggest(trial: Trial, params: Tune, train: Train) -> tuple[Train, dict[str, Any]]:
    """Return the section `train` with the fields that `trial` sets, and these fields alone, as JSON types."""
    chosen: dict[str, Any] = {}
    for name in sorted(params.space, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST)):
        allowed = params.space[name]
        if isinstance(allowed, Range) and name in INTEGERS:
            chosen[name] = trial.suggest_int(name, int(allowed.low), int(allowed.high), log=allowed.log)
            continue
        if isinstance(allowed, Range):
            chosen[name] = trial.suggest_float(name, allowed.low, allowed.high, log=allowed.log)
            continue
        backbone, stem = (str(chosen.get(first, getattr(train, first))) for first in FIRST)
        possible = _possible(name, allowed, backbone, stem, [*params.space.get("input_size", [train.input_size])])
        label = name if len(possible) == len(allowed) else f"{name} of {backbone}"
        # As JSON text, because Optuna keeps no lists.
        chosen[name] = json.loads(trial.suggest_categorical(label, [json.dumps(value) for value in possible]))
    return train.changed(chosen), chosen


def _possible(name: str, allowed: list[Any], backbone: str, stem: str, sizes: list[Any]) -> list[Any]:
    """Return those of the `allowed` values of a field that differ for the backbone, and that one of the sizes suits."""
    if name == "input_size":
        return [size for size in allowed if min(size) >= smallest_side(backbone, stem)]
    if name != "stem":
        return allowed
    # A backbone with one stem need not be tried with it twice.
    stems = allowed if backbone in SMALL else allowed[:1]
    largest = max(min(size) for size in sizes)
    return [one for one in stems if largest >= smallest_side(backbone, one)]


def as_trial(train: Train, params: Tune) -> dict[str, Any]:
    """Return the section `train` as parameters of a trial, without values that are outside of the space."""
    content, trial = train.model_dump(mode="json"), {}
    for name, allowed in params.space.items():
        if isinstance(allowed, Range):
            if allowed.low <= content[name] <= allowed.high:
                trial[name] = content[name]
        elif json.dumps(content[name]) in [json.dumps(value) for value in allowed]:
            trial[name] = json.dumps(content[name])
    return trial
