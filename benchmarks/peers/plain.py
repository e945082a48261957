"""A plain FastAPI service: `uvicorn benchmarks.peers.plain:app`, with FATESCOPE_BUNDLE naming a bundle.

It uses the engine and the decoder of our service, so that only the serving differs.
"""

import os
from pathlib import Path

from fastapi import FastAPI, File, UploadFile

from fatescope.data import images
from fatescope.data.crops import center
from service.inference import engines
from service.settings import ServiceSettings

app = FastAPI()
settings = ServiceSettings.read()
bundle, _ = engines.start(Path(os.environ["FATESCOPE_BUNDLE"]), settings.engine, settings.threads)


@app.post("/predict")
def predict(image: UploadFile = File()) -> dict[str, float]:  # noqa: B008  as FastAPI shows it
    """Classify one image."""
    [(_, pixels)] = images.decode(image.file.read(), image.filename or "", 1_000_000)
    centred = center(pixels, bundle.spec.canvas, "")
    probabilities = bundle.predict(centred[None]).probabilities[0]
    return dict(zip(bundle.spec.classes, probabilities.tolist(), strict=True))
