"""What a search may try: the fields of the section `train` that `tune.space` names, in the terms of Optuna."""

import json
from typing import Any

from optuna.trial import Trial

from fatescope.config import INTEGERS, Params, Range, Train, Tune
from fatescope.errors import ParamsError
from fatescope.networks.backbones import BACKBONES, SMALLEST


def check(params: Params) -> None:
    """Raise ParamsError where a trial could get a backbone that does not exist, or no image size that it takes."""
    space, given = params.tune.space, params.train.model_dump()
    allowed = {name: space.get(name, [given[name]]) for name in ("backbone", "input_size")}
    where = {name: f"{'tune.space' if name in space else 'train'}.{name}" for name in allowed}
    sizes = [size for size in allowed["input_size"] if isinstance(size, tuple)]
    for name in allowed["backbone"]:
        if name not in BACKBONES:
            raise ParamsError(f"{where['backbone']}: '{name}' is none of {sorted(BACKBONES)}")
        smallest = SMALLEST.get(str(name), 0)
        if all(min(size) < smallest for size in sizes):
            got = [list(size) for size in sizes]
            raise ParamsError(
                f"{where['input_size']}: {name} needs {smallest} px a side or more, got {got}; "
                f"add such a size to tune.space.input_size, or take {name} out of {where['backbone']}"
            )


def suggest(trial: Trial, params: Tune, train: Train) -> tuple[Train, dict[str, Any]]:
    """Return the section `train` with what `trial` sets, and those fields alone, as JSON types."""
    chosen: dict[str, Any] = {}
    # The backbone first, because it decides which sizes there are.
    for name in sorted(params.space, key=lambda name: name != "backbone"):
        allowed = params.space[name]
        if isinstance(allowed, Range) and name in INTEGERS:
            chosen[name] = trial.suggest_int(name, int(allowed.low), int(allowed.high), log=allowed.log)
            continue
        if isinstance(allowed, Range):
            chosen[name] = trial.suggest_float(name, allowed.low, allowed.high, log=allowed.log)
            continue
        label = name
        if name == "input_size":
            smallest = SMALLEST.get(chosen.get("backbone", train.backbone), 0)
            fits = [size for size in allowed if isinstance(size, tuple) and min(size) >= smallest]
            if len(fits) < len(allowed):
                allowed, label = list(fits), f"input_size of {chosen.get('backbone', train.backbone)}"
        # As text, because Optuna keeps plain values only.
        chosen[name] = json.loads(trial.suggest_categorical(label, [json.dumps(each) for each in allowed]))
    return train.changed(chosen), chosen


def as_trial(train: Train, params: Tune) -> dict[str, Any]:
    """Return the section `train` in the terms of the study, without the fields that its space has no place for."""
    content, trial = train.model_dump(mode="json"), {}
    for name, allowed in params.space.items():
        if isinstance(allowed, Range):
            if allowed.low <= content[name] <= allowed.high:
                trial[name] = content[name]
        elif json.dumps(content[name]) in [json.dumps(each) for each in allowed]:
            trial[name] = json.dumps(content[name])
    return trial
