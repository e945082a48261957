"""The bundle as an MLflow model: what `mlflow.pyfunc.load_model` and `mlflow models serve` run.

MLflow runs this file when it loads the model (models from code), so that nothing is pickled.

**It detects damage, and no attack.** The hashes in `spec.json` are checked, the signature of the bundle is not: this
file comes from the same registry as the bundle, and whoever can write there can change both. Before you load a version
that others could have changed, fetch it with `fatescope models pull`, which verifies the signature, and load the folder
with `fatescope.load`.
"""

import warnings
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from fatescope.inference import bundle

# The signature is more precise than the schema that MLflow would derive from type hints.
warnings.filterwarnings("ignore", ".*Add type hints to the `predict` method")


class Registered(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow ships no types
    """Classifies (B, H, W) or (B, C, H, W) raw pixels, into one row a cell: `label`, and `p_CLASS` for each class."""

    def load_context(self, context: Any) -> None:  # noqa: ANN401  MLflow's own type
        """Load the bundle that was logged with the model."""
        self._bundle = bundle.load(Path(context.artifacts["bundle"]), threads=1)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, ARG002  without hints, as above
        """Classify pixels, given bare or under the name `pixels`."""
        pixels = model_input["pixels"] if isinstance(model_input, dict) else model_input
        probabilities = self._bundle.predict(np.asarray(pixels, np.uint16)).probabilities
        classes = self._bundle.spec.classes
        table = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in classes])
        table.insert(0, "label", np.array(classes)[probabilities.argmax(1)])
        return table


mlflow.models.set_model(Registered())
