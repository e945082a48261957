"""The files of a bundle: one folder that holds all that serving a trained model needs.

| file | content |
|---|---|
| `model.onnx` | raw pixels (B, C, H, W) float32 on the canvas → `logits`, `embedding`, `activation_map` |
| `weights.safetensors` | the weights of the network, from which training can continue |
| `spec.json` | what the model is, what input it takes, what it was trained on, and the hash of every other file |
| `outliers.safetensors` | the distribution of the embeddings of training cells (`fatescope.inference.ood`) |
| `reference.parquet` | features, embeddings and predictions of reference cells, from which drift is measured |
| `seen.safetensors` | pixel hashes, ascending: `cells` that it was trained on, and those that it has `known_before` |
| `test.safetensors` | `pixels`, and the `logits` that the graph must return for them |
| `recipe.json`, `constraints.txt` | how it was made, and with which packages (`pipelines.provenance.recipe`) |
| `attestation.json` | the same as an in-toto statement; in registered versions |
| `sbom.cdx.json` | what the model consists of and was made with, as a CycloneDX list; in registered versions |

All formats are open, and none is a pickle. Loading needs neither PyTorch nor `params.yaml`.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from fatescope.config.names import BRIGHTFIELD, ChannelKind
from fatescope.data.quality_gate import QualityGate
from fatescope.errors import BundleError
from fatescope.file_hash import sha256
from fatescope.inference.track_evidence import TrackEvidence

FORMAT = 2
GRAPH, WEIGHTS, SPEC, TEST = "model.onnx", "weights.safetensors", "spec.json", "test.safetensors"
OUTLIERS, REFERENCE, SEEN = "outliers.safetensors", "reference.parquet", "seen.safetensors"
KNOWN_BEFORE = "known_before"
"""Key in SEEN: the cells on which the weights that it began with were trained; they are among `cells` too."""
OPSET = 20
"""Version of the ONNX operators that this version exports, and the newest that it runs."""


class Taught(BaseModel):
    """How the head of a bundle was taught from a few labels, on the embedding of a model that was trained on others."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    by: str
    """Who gave the labels, as they say; empty where they do not."""
    at: str
    """When, ISO 8601 in UTC."""
    model: str
    """The model whose network it has."""
    version: str
    """Its version."""
    labels: dict[str, int]
    """Class → labels."""
    samples: int
    """Samples that the labelled cells are from."""
    reads: Literal["embedding", "features", "both"]
    """What the head reads: the embedding of the network, `features.cell`, or both."""
    balanced_accuracy: float
    """By cross-validation."""
    interval: tuple[float, float] | None
    """Its 95 % interval over samples."""
    left_out: Literal["samples", "cells"]
    """What the cross-validation left out together."""
    caveats: list[str]
    """What the accuracy does not say, and what the audit found."""


class Spec(BaseModel):
    """The description of a bundle; `spec.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    format: int
    """Version of the layout of the folder."""
    opset: int
    """Version of the ONNX operators in the graph."""
    task: str
    """The name of the task, one of `dataset.tasks`; of a head that was taught, the one that it was given."""
    classes: list[str]
    """Class names in the order of the logits."""
    hierarchy: dict[str, list[str]] = {}
    """Coarse class → the classes that it joins, for cells whose class is unsure; empty where there are none, and in
    older bundles."""
    canvas: tuple[int, int]
    """Height and width in px of the canvas on which a cell is centred."""
    bit_depths: list[int]
    """Bit depths of the cells it was trained on."""
    height_px: tuple[int, int]
    """Smallest and largest native height of the cells it was trained on."""
    width_px: tuple[int, int]
    """Smallest and largest native width of the cells it was trained on."""
    channel: str | None
    """The input channel of the export; of several, the first."""
    channels: dict[str, ChannelKind] = {}
    """Channel → kind, in the order of the graph; empty in older bundles, and where paths name no channel: one image in
    brightfield."""
    backbone: str
    """The CNN; those of an ensemble are separated by ` + `."""
    join: str | None
    """How the members of an ensemble are combined; None for a single network."""
    seed: int
    """Seed of the training."""
    temperature: float
    """The temperature by which the logits are already divided."""
    coverage: float
    """Share of the cells of each class whose conformal set contains the class, among cells not seen in training."""
    conformal: list[float]
    """(K,) A class belongs to the conformal set where its probability is at least this."""
    coarse_thresholds: dict[str, float] | None = None
    """Coarse class → the probability from which an unsure cell, whose most probable class is one of its classes, is
    called by it: of such calls of unseen cells at least `coverage` are right, with a margin for chance, and of the
    cells of each other class at most 1 - `coverage` are called so. A coarse class without one is not called; None in
    older bundles, where the conformal set decides."""
    false_alarm: float
    """Share of in-distribution cells that are called unlike the training cells, among those not seen in training."""
    outlier_threshold: float
    """Distance above which a cell is unlike the training cells."""
    prior: list[float]
    """(K,) The class shares that the probabilities assume."""
    composition_error: list[list[float]]
    """(K, K) Covariance of the estimated shares of a culture that does not shrink with more cells."""
    tracks: TrackEvidence | None = None
    """How several images of a cell over time add up; None where it was trained on one image of each."""
    quality: QualityGate | None = None
    """The limits of good single cells; None in bundles that do not have them."""
    cost: dict[str, float]
    """`parameters`, `multiply_adds` per cell, `fit_seconds` on the machine that trained it and, where it could be
    measured, `energy_wh`."""
    split: str
    """The scheme, `random` or `grouped`, whose training and validation splits it has seen."""
    confounded: dict[str, str]
    """Class → why it could not be tested on acquisition groups that the model has not seen."""
    simulated: bool
    """Whether any cell it was trained on is simulated."""
    data_hash: str
    """The hash of the data."""
    taught: Taught | None = None
    """How its head was taught; None where the whole network was trained."""
    made: str | None = None
    """When it was trained, ISO 8601 in UTC; None in older bundles, which do not record it."""
    git_commit: str
    """The git commit of the code; empty outside a repository."""
    params: dict[str, Any]
    """The sections of `params.yaml` with which it was trained; `train` has one for each network, and `teacher` those of
    the networks that taught a distilled one."""
    hashes: dict[str, str]
    """File name → SHA-256 of its bytes."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The channels that the model gets of a cell, in order; empty where paths name none."""
        return tuple(self.channels) or ((self.channel,) if self.channel is not None else ())

    @property
    def kinds(self) -> tuple[ChannelKind, ...]:
        """The kind of each of the images that the model gets of a cell."""
        return tuple(self.channels.values()) or (BRIGHTFIELD,)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the pixels of a cell: (C, H, W), or (H, W) where there is one channel."""
        return self.canvas if len(self.kinds) == 1 else (len(self.kinds), *self.canvas)


def finalize(folder: Path, spec: Spec) -> None:
    """Complete the bundle in `folder`: write `spec` with the hashes of all other files."""
    # safetensors writes files that only their owner may read; a bundle is copied and mounted for others to run.
    for path in folder.iterdir():
        path.chmod((folder / GRAPH).stat().st_mode)
    hashes = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name != SPEC}
    (folder / SPEC).write_text(
        spec.model_copy(update={"hashes": hashes}).model_dump_json(indent=2) + "\n", encoding="utf-8"
    )


def open_spec(folder: Path) -> Spec:
    """Read the spec of a bundle and verify its files.

    Raises BundleError for a folder that is not a bundle, has another format, or has a missing or changed file.
    """
    spec = read_spec(folder)
    if spec.opset > OPSET:
        raise BundleError(f"{folder}: ONNX opset {spec.opset}, but this version runs up to {OPSET}; update fatescope")
    for name, expected in spec.hashes.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{folder}: {name} is missing; download the bundle again")
        if sha256(path) != expected:
            raise BundleError(f"{folder}: {name} was changed or damaged after training; download the bundle again")
    return spec


def read_spec(folder: Path) -> Spec:
    """Read `spec.json`; raises BundleError where there is none, or none of the format that this version reads."""
    try:
        text = (folder / SPEC).read_text(encoding="utf-8")
    except OSError as error:
        raise BundleError(f"{folder}: not a bundle ({error}); train one with `dvc repro train`") from error
    try:
        version = json.loads(text)["format"]
        if version > FORMAT:
            raise BundleError(f"{folder}: format {version}, but this version reads {FORMAT}; update fatescope")
        if version < FORMAT:
            raise BundleError(
                f"{folder}: format {version}, but this version reads {FORMAT}; train again with `dvc repro train`"
            )
        return Spec.model_validate_json(text)
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder / SPEC}: damaged ({error}); download the bundle again") from error
