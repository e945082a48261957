"""Presets as changes to params.yaml."""

from fatescope.config.presets import get_preset


def preset(name):
    """Return the `dataset` section of the preset `name`, as changes to params.yaml."""
    return {f"dataset.{key}": value for key, value in get_preset(name).values()["dataset"].items()}
