"""How a model was made, so that it can be made again: `recipe.json` and `constraints.txt` in its bundle.

What the search found is a part of it (the settings and epochs of the networks, in `spec.json`), and so are the epochs
that early stopping and `train.minutes` left: a rebuild repeats them, and no clock decides anything.
"""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fatescope.config import Params
from fatescope.errors import BundleError
from pipelines.provenance import packages
from pipelines.provenance.code import ROOT, Code

FORMAT = 1
RECIPE, CONSTRAINTS, DATA_VERSION = "recipe.json", "constraints.txt", "data.dvc"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_DYNAMIC", "ATEN_CPU_CAPABILITY")
"""Variables that change in which order numbers are added up."""


class Machine(BaseModel):
    """Where a model was trained; on another machine the same recipe rounds otherwise."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    python: str
    platform: str
    """System and processor, such as `Linux-x86_64`."""
    device: str
    """`cpu`, or the name of the GPU."""
    precision: str
    """Of the passes of training, such as `torch.bfloat16`."""
    threads: dict[str, str]
    """Those of THREADS that were set; the number of PyTorch's own threads is in the settings of the networks."""
    simd: list[str] = []
    """Instructions of the processor that NumPy found."""

    @classmethod
    def here(cls, device: str, precision: str) -> Self:
        """Return this machine."""
        config: dict[str, Any] = np.show_config(mode="dicts")  # type: ignore[assignment]  # None in the other mode
        return cls(
            python=platform.python_version(),
            platform=f"{platform.system()}-{platform.machine()}",
            device=device,
            precision=precision,
            threads={name: os.environ[name] for name in THREADS if name in os.environ},
            simd=list(config.get("SIMD Extensions", {}).get("found", [])),
        )


class Recipe(BaseModel):
    """How the model of a bundle was made; `recipe.json`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    format: int = FORMAT
    params: dict[str, Any]
    """All of `params.yaml`."""
    code: Code
    data_version: str | None
    """The text of `data.dvc`; None where there was none."""
    packages: dict[str, str]
    """Package → its version, of all that training needs."""
    machine: Machine
    started: str
    """When the stage `train` began, ISO 8601 in UTC."""
    finished: str
    """When the model was written."""
    shortened: bool = False
    """Whether a fit took fewer steps than planned, because `train.minutes` were over; a rebuild takes all of them."""

    @classmethod
    def begin(cls, params: Params, machine: Machine) -> Self:
        """Return the recipe of a training that begins now in the current folder."""
        now, version = _now(), Path(DATA_VERSION)
        return cls(
            params=params.model_dump(mode="json", by_alias=True),
            code=Code.current(),
            data_version=version.read_text(encoding="utf-8") if version.is_file() else None,
            packages=packages.installed(),
            machine=machine,
            started=now,
            finished=now,
        )

    def end(self, *, shortened: bool) -> Self:
        """Return the recipe of a model that is finished now."""
        return self.model_copy(update={"finished": _now(), "shortened": shortened})

    def write(self, folder: Path) -> None:
        """Write the recipe into the bundle in `folder`, and the constraints of this code beside it."""
        (folder / RECIPE).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if (ROOT / CONSTRAINTS).is_file():
            (folder / CONSTRAINTS).write_bytes((ROOT / CONSTRAINTS).read_bytes())

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the recipe of the bundle in `folder`; None in bundles that were made before there were any.

        Raises BundleError for one that this version cannot read.
        """
        try:
            text = (folder / RECIPE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            recipe = cls.model_validate_json(text)
        except ValidationError as error:
            raise BundleError(f"{folder / RECIPE}: damaged ({error.errors(include_url=False)[:2]})") from error
        if recipe.format > FORMAT:
            raise BundleError(
                f"{folder / RECIPE}: format {recipe.format}, but this version reads {FORMAT}; update fatescope"
            )
        return recipe

    @property
    def data_hash(self) -> str | None:
        """The hash by which DVC knows the data, such as `2e4b….dir`."""
        try:
            outs = (YAML(typ="safe", pure=True).load(self.data_version or "") or {}).get("outs") or [{}]
        except YAMLError:
            return None
        found = outs[0].get("md5")
        return None if found is None else str(found)


def constraints_of(folder: Path) -> str | None:
    """Return the constraints in the bundle in `folder`, if it has them."""
    path = folder / CONSTRAINTS
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
