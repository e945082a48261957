"""Bundles on the GPU that PyTorch finds, so that evaluating the many models of a task does not wait for the CPU.

What is served is the exported graph, and what runs here is the network with the same weights, in float32 without TF32:
it must give the logits of the bundle's test tensors, which are those of the graph, within `bundle.TOLERANCE`. Figures
from a GPU and from a CPU differ by no more than such a difference of the logits makes. Without a GPU, or where it does
not reproduce them, the graph itself runs.
"""

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fatescope.inference import bundle
from fatescope.inference.bundle import Bundle
from fatescope.inference.uncertainty import Prediction
from fatescope.networks import network
from fatescope.networks.precision import full_precision
from fatescope.networks.preprocessing import widen

log = logging.getLogger(__name__)


class ExactNetwork:
    """The network of a bundle in PyTorch, in float32."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._device = device
        self._network = network.restore(bundle.read_spec(folder), folder / bundle.WEIGHTS).to(device)

    @torch.inference_mode()
    def predict(self, pixels: npt.NDArray[np.uint16], *, maps: bool = True) -> Prediction:
        """Run the network on (B, C, H, W) raw pixels on the canvas; those of one channel may be (B, H, W).

        Without `maps`, the activation maps are empty, so that they need not be copied from the GPU.
        """
        # As int16, see `widen`: half the bytes of float32.
        stored = torch.from_numpy(np.ascontiguousarray(pixels).view(np.int16)).to(self._device)
        with full_precision(self._device):
            outputs = self._network(widen(stored))
        activation = outputs.activation_map if maps else outputs.activation_map[:, :, :0, :0]
        return Prediction(*(output.cpu().numpy() for output in (outputs.logits, outputs.embedding, activation)))


def load(folder: Path, threads: int, device: torch.device | None = None) -> Bundle:
    """Load the bundle in `folder` to run on `device`, by default a GPU where there is one, else on `threads` of a CPU.

    Raises BundleError as `bundle.open_spec` does.
    """
    model = bundle.load(folder, threads)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        return model
    try:
        moved = model.with_engine(ExactNetwork(folder, device))
        moved.check()
    # A missing or outdated driver shows itself in as many ways as there are drivers.
    except Exception as error:  # noqa: BLE001  see above
        log.warning("%s: it runs on the CPU, not on %s: %s", folder, device, str(error).strip().partition("\n")[0])
        return model
    return moved
