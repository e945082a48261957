"""Train the model of a bundle again by its recipe: `python -m pipelines.commands.rebuild`.

`fatescope models verify` runs it in a checkout of the commit that the model was made by. The settings and epochs of the
networks are those of the bundle; nothing is searched, chosen or timed, and nothing is tracked.

Writes one bundle a seed, `SEED`, below a folder; calibration is that of the first seed, as in the stage `train`.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fatescope.command import CellsFolder, OutFolder, QualityFile, SplitsFile, run
from fatescope.config import Params, Train
from fatescope.errors import BundleError
from fatescope.inference import bundle
from pipelines.provenance.recipe import RECIPE, Machine, Recipe
from pipelines.training import selection
from pipelines.training.bundle_writer import build_spec, write_bundle
from pipelines.training.candidate_fits import untracked
from pipelines.training.context import load_context
from pipelines.training.cross_fit import deal_folds
from pipelines.training.device import describe_device


def main(
    model: Annotated[Path, typer.Option("--bundle", help="Folder of the bundle to make again.")],
    source: CellsFolder,
    parts: SplitsFile,
    target: OutFolder,
    seeds: Annotated[list[int], typer.Option("--seed", help="A seed to train with; may be given several times.")],
    quality: QualityFile = None,
) -> None:
    """Train the model of a bundle again, once with each seed, for the epochs that are recorded in it."""
    recipe, spec = Recipe.read(model), bundle.read_spec(model)
    if recipe is None:
        raise BundleError(f"{model}: it has no {RECIPE}, so that it cannot be made again; train and register it anew")
    params = Params.model_validate_json(json.dumps(recipe.params))
    context = load_context(params, spec.task, source, parts, recipe.code.commit, quality)
    context = replace(context, recipe=Recipe.begin(params, Machine.here(*describe_device())))
    members, teacher = (
        [Train.model_validate_json(json.dumps(member)) for member in spec.params.get(name, [])]
        for name in ("train", "teacher")
    )
    examples, classes = context.examples(spec.split), len(context.classes)
    folds = deal_folds(examples, context.groups, params.calibrate, whole=spec.split == "grouped", tracks=context.tracks)
    candidate = selection.repeat_candidate(examples, folds, classes, members, params, untracked, teacher)
    for seed in seeds:
        refit = selection.refit_candidate(candidate, examples, classes, seed, params, untracked)
        again = build_spec(candidate, refit, examples, spec.split, seed, context)
        write_bundle(refit, again, context, target / str(seed))


if __name__ == "__main__":
    run(main)
