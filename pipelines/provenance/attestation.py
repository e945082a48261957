"""Where a model comes from, as an in-toto statement with the provenance of SLSA: `attestation.json` in its bundle.

The statement is of version 1 (https://in-toto.io/Statement/v1), its predicate that of SLSA 1
(https://slsa.dev/provenance/v1). Its subjects are the bundle as it was trained, by the SHA-256 of its `spec.json`,
which has those of all other files, and each of these files. It says nothing that differs when it is made again.

The signature of the bundle covers the file. Tools that want an envelope sign the same bytes as the payload of a DSSE of
type `application/vnd.in-toto+json`.
"""

import hashlib
import json
from typing import Any

from fatescope.inference.spec import SPEC, Spec
from fatescope.model_registry import model_name
from pipelines.provenance.recipe import CONSTRAINTS, RECIPE, Recipe

ATTESTATION = "attestation.json"
STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
BUILD_TYPE, BUILDER = "urn:fatescope:train:v1", "urn:fatescope:stage:train"
"""What the parameters below mean, and who built: the stage of that name, on whatever machine it ran."""


def attest(spec: Spec, digest: str, splits_hash: str, run_id: str, recipe: Recipe | None) -> dict[str, Any]:
    """Return the statement on a bundle as it was trained.

    `digest` is the SHA-256 of its spec and `splits_hash` that of the splits; `run_id` is the MLflow run of the
    training. Without a `recipe`, as in bundles of before, it lacks what only that has.
    """
    metadata = {"invocationId": run_id} if run_id else {}
    if recipe is not None:
        metadata |= {"startedOn": recipe.started, "finishedOn": recipe.finished}
    return {
        "_type": STATEMENT,
        "subject": [
            {"name": model_name(spec.task), "digest": {"sha256": digest}, "annotations": {"file": SPEC}},
            *({"name": name, "digest": {"sha256": value}} for name, value in sorted(spec.hashes.items())),
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "task": spec.task,
                    "split": spec.split,
                    "seed": spec.seed,
                    "networks": spec.params["train"],
                    "params": spec.params if recipe is None else recipe.params,
                },
                "internalParameters": {} if recipe is None else recipe.machine.model_dump(mode="json"),
                "resolvedDependencies": _dependencies(spec, splits_hash, recipe),
            },
            "runDetails": {"builder": {"id": BUILDER}, "metadata": metadata},
        },
    }


def _dependencies(spec: Spec, splits_hash: str, recipe: Recipe | None) -> list[dict[str, Any]]:
    """Return the descriptors of code, data, splits and constraints, as far as they are known."""
    data: dict[str, Any] = {"name": "data", "digest": {"sha256": spec.data_hash}}
    found = [*([data] if spec.data_hash else []), {"name": "splits.parquet", "digest": {"sha256": splits_hash}}]
    if CONSTRAINTS in spec.hashes:
        found.append({"name": CONSTRAINTS, "digest": {"sha256": spec.hashes[CONSTRAINTS]}})
    if recipe is None:
        commit = spec.git_commit.removesuffix("-dirty")
        return [{"name": "code", "digest": {"gitCommit": commit}}, *found] if commit else found
    if recipe.data_hash:
        data["annotations"] = {"dvc": recipe.data_hash}
    code = recipe.code
    if code.changes:
        patch = {"sha256": hashlib.sha256(code.changes.encode()).hexdigest()}
        found.insert(0, {"name": "changes", "digest": patch, "annotations": {"in": RECIPE}})
    if code.commit:
        address = {"uri": f"git+{code.repository}@{code.commit}"} if code.repository else {}
        found.insert(0, {"name": "code", **address, "digest": {"gitCommit": code.commit}})
    return found


def to_text(content: dict[str, Any]) -> str:
    """Return a document of a bundle as the text of its file."""
    return json.dumps(content, indent=2) + "\n"
