"""What the tests of the vision-language model share: made-up cells of two sizes, their pairs, and a tiny model."""

from types import SimpleNamespace

import numpy as np
import pytest

from fatescope import config
from pipelines.language import conversations, instructions, tiny
from pipelines.stages import ingest, split
from tests.support.exports import write_export
from tests.support.params import write_params
from tests.support.pipeline import CHANGES


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The folders of cells, pairs and a tiny model with random weights, and what the pairs are made of."""
    folder = tmp_path_factory.mktemp("language")
    params = write_params(folder, CHANGES)
    write_export(folder / "data", np.random.default_rng(0), runs=(1, 2, 3, 4, 5, 6))
    ingest.main(params, folder / "data", folder / "cells")
    split.main(params, folder / "cells", folder / "splits.parquet")
    written = instructions.write(
        config.load(params),
        folder / "cells",
        folder / "splits.parquet",
        "binary",
        folder / "pairs",
        scheme="grouped",
        pixel_size_um=None,
    )
    training = conversations.read(folder / "pairs", "train")
    tiny.build(folder / "tiny", conversations.side(training), conversations.texts(training))
    return SimpleNamespace(folder=folder, data=written, conversations=training, params=params)
