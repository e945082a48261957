"""A LitServe service with batches: `python -m benchmarks.peers.lit --port PORT`, with FATESCOPE_BUNDLE naming a bundle.

It uses the engine and the decoder of our service, so that only the serving differs.
"""

import os
from pathlib import Path
from typing import Annotated

import litserve as ls
import numpy as np
import typer
from fastapi import UploadFile

from fatescope.command import run
from fatescope.data import images
from fatescope.data.crops import center
from service.inference import engines
from service.settings import ServiceSettings


class Classifier(ls.LitAPI):
    """Classifies one image per request."""

    def setup(self, device: str) -> None:  # noqa: ARG002  LitServe passes it
        """Load the model."""
        settings = ServiceSettings.read()
        self.model, _ = engines.start(Path(os.environ["FATESCOPE_BUNDLE"]), settings.engine, settings.threads)

    def decode_request(self, request: UploadFile) -> np.ndarray:
        """Return the pixels of a file, on the canvas."""
        [(_, pixels)] = images.decode(request.file.read(), "", 1_000_000)
        return center(pixels, self.model.spec.canvas, "")

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Stack requests into a batch."""
        return np.stack(inputs)

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Classify a batch."""
        return self.model.predict(inputs).probabilities

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """Return the results of a batch one by one."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict[str, float]:
        """Return class → probability."""
        return dict(zip(self.model.spec.classes, output.tolist(), strict=True))


def main(port: Annotated[int, typer.Option(help="Port to listen on.")]) -> None:
    """Serve the bundle until the process is terminated."""
    server = ls.LitServer(Classifier(max_batch_size=64, batch_timeout=0.005), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    run(main)
