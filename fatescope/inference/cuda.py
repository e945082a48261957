"""What CUDA has on this machine, asked without loading a framework, and what its errors mean."""

import contextlib
import ctypes
import io
import os
from functools import cache
from itertools import takewhile
from pathlib import Path

PROVIDER = "CUDAExecutionProvider"
"""ONNX Runtime on CUDA."""
MEMORY_SHARE = 0.4
"""Share of the memory of a GPU that one network may take, by default: while a new version takes the place of another,
both are loaded."""
_FATAL = (
    "illegal memory access",
    "unspecified launch failure",
    "misaligned address",
    "illegal instruction",
    "invalid program counter",
    "hardware stack error",
    "device-side assert triggered",  # PyTorch speaks of device-side assertions at the end of every error
    "launch timed out",
    "global/shared address space",
    "uncorrectable ecc",
    "uncorrectable nvlink",
    "context is destroyed",
    "gpu is lost",
    "fallen off the bus",
    "nvlink or a hardware error",
)
"""What CUDA says of errors after which every later call of the process fails, in lower case (the manual of the runtime:
'the process must be terminated and relaunched')."""
_OF_A_GPU = ("cuda error", "cuda failure", "cudnn", "cublas", "cufft")
_OUT_OF_MEMORY = ("out of memory", "failed to allocate memory", "available memory of")


def is_fatal(error: BaseException) -> bool:
    """Tell whether an error of a GPU stays with the process, so that only a new process can use the GPU."""
    text = _text(error)
    return any(sign in text for sign in _FATAL)


def is_of_gpu(error: BaseException) -> bool:
    """Tell whether an error is one of CUDA or its libraries, other than too little memory for one call."""
    text = _text(error)
    return any(sign in text for sign in _OF_A_GPU) and not any(sign in text for sign in _OUT_OF_MEMORY)


def describe(error: BaseException) -> str:
    """Return an error in one line: its kind, and the first line of what it says; PyTorch's go on with advice."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _text(error: BaseException) -> str:
    """Return the messages of an error and of those that led to it, in lower case."""
    messages, seen = list[str](), set[int]()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        messages.append(str(current).lower())
        current = current.__cause__ or current.__context__
    return "\n".join(messages)


def devices() -> int:
    """Return the number of NVIDIA GPUs with a device file, whether or not there is a driver."""
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name.removeprefix("nvidia").isdecimal()])


def gpus() -> int:
    """Return the number of NVIDIA GPUs that this process may use."""
    return len(_visible())


def select_gpu(index: int) -> None:
    """Restrict this process to one of the GPUs that it may use, number `index` modulo their count."""
    allowed = _visible()
    os.environ["CUDA_VISIBLE_DEVICES"] = allowed[index % len(allowed)]


def _visible() -> list[str]:
    """Return the names of the GPUs that this process may use: numbers, or what CUDA_VISIBLE_DEVICES calls them."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return [str(index) for index in range(devices())]
    # CUDA sees those before the first that it does not know.
    return list(takewhile(lambda name: name not in {"", "-1"}, (name.strip() for name in allowed.split(","))))


def memory_bytes() -> int | None:
    """Return the memory of the first GPU that this process may use, None where the driver does not say."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, size = ctypes.c_int(), ctypes.c_size_t()
    # Each returns 0 where it succeeds.
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    return None if driver.cuDeviceTotalMem_v2(ctypes.byref(size), device) else size.value


def provider_options(memory_share: float) -> dict[str, str]:
    """Return the options of PROVIDER for batches of a few sizes (`fatescope.inference.buckets`)."""
    memory = memory_bytes()
    return {
        # An exhaustive search runs every algorithm of every layer for every new size.
        "cudnn_conv_algo_search": "HEURISTIC",
        # By default, each extension doubles what the arena takes from the GPU.
        "arena_extend_strategy": "kSameAsRequested",
        **({"gpu_mem_limit": str(int(memory * memory_share))} if memory else {}),
    }


@cache
def preload() -> tuple[str, ...]:
    """Load the libraries of CUDA that PROVIDER needs from where pip installs them; return what ONNX Runtime says of it.

    Without this, it finds only those on the path of the system's loader. Nothing is loaded for a build without CUDA.
    """
    import onnxruntime  # noqa: PLC0415  the rest of this module does without

    said = io.StringIO()
    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(said):
            onnxruntime.preload_dlls()
    return tuple(line.strip() for line in said.getvalue().splitlines() if line.strip())
