"""What is known of CUDA without a framework, and of its errors."""

import ctypes
from types import SimpleNamespace

import onnxruntime
import pytest

from fatescope.inference import cuda

ADVICE = """
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."""
"""What PyTorch says after every error of CUDA."""
FATAL = [
    f"CUDA error: an illegal memory access was encountered{ADVICE}",
    f"CUDA error: device-side assert triggered{ADVICE}",
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : CUDA failure 719: unspecified launch failure ; GPU=0 ; hostname=node",
    "CUDA failure 214: uncorrectable ECC error encountered ; GPU=0",
]
OF_GPU = [
    "CUDNN_FE failure 11: CUDNN_BACKEND_API_FAILED ; GPU=0 ; hostname=node ; expr=s_.cudnn_fe_graph->execute()",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    f"CUDA error: CUDA driver version is insufficient for CUDA runtime version{ADVICE}",
    f"CUDA error: no kernel image is available for execution on the device{ADVICE}",
    "CUDNN failure 4000: CUDNN_STATUS_INTERNAL_ERROR ; GPU=0",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
]
MEMORY = [
    f"CUDA error: out of memory{ADVICE}",
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 15.89 GiB",
    "CUDA failure 2: out of memory ; GPU=0",
    "Available memory of 1048576 is smaller than requested bytes of 2097152",
]
OTHER = ["index 3 is out of bounds for axis 0 with size 2", "pixels of shape (1, 2, 2)"]


@pytest.mark.parametrize("text", FATAL + OF_GPU + MEMORY + OTHER)
def test_errors_of_a_gpu_are_told_from_others_and_those_that_stay_from_those_that_pass(text):
    error = RuntimeError(text)
    assert cuda.is_fatal(error) == (text in FATAL)
    assert cuda.is_of_gpu(error) == (text in FATAL + OF_GPU)


def test_an_error_is_known_by_what_led_to_it():
    error = ValueError("no rows")
    assert not cuda.is_fatal(error)
    error.__context__ = RuntimeError(FATAL[0])
    assert cuda.is_fatal(error)
    error.__context__.__context__ = error  # which Python allows
    assert cuda.is_fatal(error)


def test_an_error_is_one_line():
    assert cuda.describe(RuntimeError(FATAL[0])) == "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert cuda.describe(MemoryError()) == "MemoryError: "


def driver(error):
    """Return the driver of CUDA, with two GPUs of different size, whose first call returns `error`."""

    def get(device, index):
        device._obj.value = 7 + index
        return 0

    def measure(size, device):
        size._obj.value = {7: 16 << 30, 8: 80 << 30}[device.value]
        return 0

    return SimpleNamespace(cuInit=lambda _: error, cuDeviceGet=get, cuDeviceTotalMem_v2=measure)


def test_the_memory_of_a_gpu_is_asked_of_the_driver(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: {"libcuda.so.1": driver(0)}[name])
    assert cuda.memory_bytes() == 16 << 30
    assert cuda.provider_options(0.5)["gpu_mem_limit"] == str(8 << 30)
    # 100: no device.
    monkeypatch.setattr(ctypes, "CDLL", lambda _: driver(100))
    assert cuda.memory_bytes() is None
    assert "gpu_mem_limit" not in cuda.provider_options(0.5)


def test_a_machine_without_a_driver_has_no_memory_of_a_gpu(monkeypatch):
    def absent(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert cuda.memory_bytes() is None


def test_what_cannot_be_preloaded_is_returned_and_not_printed(monkeypatch, capsys):
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcublas.so.13"), raising=False)
    cuda.preload.cache_clear()
    assert cuda.preload() == ("Failed to load libcublas.so.13",)
    assert cuda.preload() == ("Failed to load libcublas.so.13",), "once in a process"
    monkeypatch.delattr(onnxruntime, "preload_dlls")
    cuda.preload.cache_clear()
    assert cuda.preload() == ()
    cuda.preload.cache_clear()
    assert capsys.readouterr().out == ""
