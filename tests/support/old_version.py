"""A version as the commit c6adb21 registered it, when the whole package `pipelines` went with every model.

`old_version.zip` has the folder that `register.log_version` of that commit made of a bundle, and the tags and the
description that its stage left with the version. The graph of the bundle has six parameters: it divides the cells of
`write_export` by how far their brightest pixel is above the mean, and is wrong about some.
"""

import json
import zipfile
from pathlib import Path

ARCHIVE = Path(__file__).with_name("old_version.zip")


def unpack(folder):
    """Unpack the model into `folder`, and return where it is."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return folder / "model"


def register(client, folder):
    """Register the model of `folder` as version 1 of the task binary, and the champion, with the tags that it had."""
    name, known = "fatescope-binary", json.loads((folder / "version.json").read_text())
    client.create_registered_model(name)
    version = client.create_model_version(name, source=str(folder / "model")).version
    for key, value in known["tags"].items():
        client.set_model_version_tag(name, version, key, value)
    client.update_model_version(name, version, known["description"])
    client.set_registered_model_alias(name, "champion", version)
