"""What signatures cost: signing and verifying a bundle of 100 MB, beside reading and hashing it once.

The bundle is files of random bytes, in the sizes that an ensemble of ResNet18 has. Each figure is the median of several
turns, with the files in the cache of the system, as they are after a download; the first use of `model-signing` in a
process, which imports it, is a figure of its own.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.report import Figure, publish
from fatescope.command import run
from fatescope.signing import signature
from fatescope.signing.settings import SigningSettings

SIZES_MB = {"model.onnx": 48.0, "weights.safetensors": 48.0, "reference.parquet": 3.5, "outliers.safetensors": 0.45,
            "spec.json": 0.05}  # fmt: skip
TURNS = 7
SEED = 0
BAR = "<= 1"


def seconds(call: Callable[[], object]) -> float:
    """Return the median time that `call` takes."""
    times = []
    for _ in range(TURNS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times)


def main() -> None:
    """Measure, print and write the figures."""
    with tempfile.TemporaryDirectory(prefix="fatescope-") as name:
        folder = Path(name) / "bundle"
        folder.mkdir()
        for file, size in SIZES_MB.items():
            (folder / file).write_bytes(os.urandom(round(size * 1e6)))
        paths = list(folder.iterdir())
        settings = SigningSettings(signing_key=Path(name) / "key.pem", signatures="required")
        signature.sign(folder, settings)
        figures = [
            Figure("sign 100 MB, seconds", seconds(lambda: signature.sign(folder, settings)), BAR),
            Figure("verify 100 MB, seconds", seconds(lambda: signature.verify(folder, settings, registry=True)), BAR),
            Figure("first use in a process, with what it imports, seconds", seconds(lambda: _verify(folder))),
            Figure("limit: read and hash 100 MB once, seconds", seconds(lambda: _hash(paths))),
            Figure("bytes of a signature, thousands", (folder / signature.SIGNATURE).stat().st_size / 1e3),
        ]
    publish("signing", figures, ["model-signing", "cryptography"], SEED)


def _hash(paths: list[Path]) -> None:
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")


def _verify(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from fatescope.signing import signature; "
        "from fatescope.signing.settings import SigningSettings as S; "
        "signature.verify(Path(sys.argv[1]), S(signing_key=Path(sys.argv[1]).parent / 'key.pem'), registry=True)"
    )
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True)


if __name__ == "__main__":
    run(main)
