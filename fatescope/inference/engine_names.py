"""The names of the engines that run the network of a bundle, and what a person may ask for."""

from typing import Literal

EngineName = Literal["cuda", "torch-cuda", "openvino-bf16", "openvino", "onnxruntime", "torch"]
EngineChoice = Literal[EngineName, "gpu"]
"""`gpu` is the first that runs on a GPU, and none other."""

GPU_ENGINES: tuple[EngineName, ...] = ("cuda", "torch-cuda")
"""Those that run on a GPU, best first."""
