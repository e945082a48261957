"""What a model consists of and was made with, as a CycloneDX list: `sbom.cdx.json` in its bundle.

The list is of version 1.6 (https://cyclonedx.org/docs/1.6/json). The model is a component of the type
`machine-learning-model`; it depends on its data and on the packages that trained it. Like the attestation it says
nothing that differs when it is made again.
"""

import uuid
from typing import Any
from urllib.parse import quote

from fatescope.inference.spec import Spec
from fatescope.model_registry import model_name
from pipelines.provenance.recipe import Recipe

SBOM = "sbom.cdx.json"
SCHEMA, VERSION = "http://cyclonedx.org/schema/bom-1.6.schema.json", "1.6"


def list_components(spec: Spec, digest: str, recipe: Recipe | None) -> dict[str, Any]:
    """Return the list of a bundle as it was trained; `digest` is the SHA-256 of its spec.

    Without a `recipe`, as in bundles of before, it has no packages.
    """
    packages = {} if recipe is None else recipe.packages
    libraries = [_library(name, version) for name, version in packages.items()]
    files = [
        {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": [{"alg": "SHA-256", "content": value}]}
        for name, value in sorted(spec.hashes.items())
    ]
    needed = ["data", *(library["bom-ref"] for library in libraries)]
    return {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": VERSION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'urn:fatescope:bundle:{digest}')}",
        "version": 1,
        "metadata": ({} if recipe is None else {"timestamp": recipe.finished})
        | {"component": _model(spec, digest, files)},
        "components": [_data(spec), *libraries],
        "dependencies": [{"ref": "model", "dependsOn": needed}, *({"ref": name} for name in needed)],
    }


def _model(spec: Spec, digest: str, files: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": model_name(spec.task),
        "version": digest[:12],
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "components": files,
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": f"image classification: {', '.join(spec.classes)}",
                "architectureFamily": "convolutional neural network",
                "modelArchitecture": spec.backbone,
                "datasets": [{"ref": "data"}],
            },
        },
    }


def _data(spec: Spec) -> dict[str, Any]:
    known = {"version": spec.data_hash[:12], "hashes": [{"alg": "SHA-256", "content": spec.data_hash}]}
    return {
        "type": "data",
        "bom-ref": "data",
        "name": "simulated cells" if spec.simulated else "cells",
    } | (known if spec.data_hash else {})


def _library(name: str, version: str) -> dict[str, Any]:
    address = f"pkg:pypi/{name}@{quote(version)}"
    return {"type": "library", "bom-ref": address, "name": name, "version": version, "purl": address}
