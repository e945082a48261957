"""What is said of inference: engines, GPUs, and a machine that has no more than inference needs."""

import importlib.util
import json
import os
import subprocess
import sys

import onnxruntime
import pytest
from safetensors.numpy import load_file

from fatescope.cli import doctor, engine_checks, probe, probe_inference
from fatescope.inference import bundle, cuda
from tests.support.bundles import COMMITTED
from tests.support.project import ROOT

CPU_ONLY = {
    "gpus": 0,
    "gpu_memory_bytes": None,
    "providers": ["AzureExecutionProvider", "CPUExecutionProvider"],
    "not_preloaded": [],
    "unusable": {},
    "engine": "openvino",
}
GPU = {
    "gpus": 2,
    "gpu_memory_bytes": 16_000_000_000,
    "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    "not_preloaded": [],
    "unusable": {},
    "engine": "cuda",
}


def told(found, devices=0, **others):
    return {
        check.name: (check.state, check.detail) for check in engine_checks.inference_checks(found, devices, **others)
    }


def test_a_machine_without_gpus_has_an_engine():
    assert told(CPU_ONLY) == {"inference": ("ok", "the service takes the engine openvino")}
    state, detail = told(CPU_ONLY, devices=2, allowed="-1", named="torch")["inference"]
    assert state == "ok"
    assert detail.endswith("; CUDA_VISIBLE_DEVICES=-1 hides 2 GPUs; FATESCOPE_ENGINE=torch is tried alone")


def test_a_gpu_that_is_used_is_told_with_all_that_it_needs():
    assert told(GPU, devices=2) == {
        "visible GPUs": ("ok", "2, the first with 16.0 GB"),
        "CUDA in ONNX Runtime": ("ok", "built for CUDA, CPU; its libraries for CUDA load"),
        "inference": ("ok", "the service takes the engine cuda"),
    }


def test_a_gpu_that_is_left_is_a_warning_with_what_it_lacks():
    lacks = {
        "cuda": "RuntimeError: ONNX Runtime cannot load its provider for CUDA",
        "torch-cuda": "PyTorch is not installed",
    }
    found = GPU | {
        "gpu_memory_bytes": None,
        "not_preloaded": ["Failed to load libcudnn.so.9"],
        "unusable": lacks,
        "engine": "onnxruntime",
    }
    checks = told(found, devices=2)
    assert checks["visible GPUs"] == ("warning", "2, whose driver does not answer")
    state, detail = checks["CUDA in ONNX Runtime"]
    assert state == "warning"
    assert "Failed to load libcudnn.so.9; RuntimeError: ONNX Runtime cannot load" in detail
    state, detail = checks["inference"]
    assert state == "warning"
    assert "leaves the GPU and takes the engine onnxruntime (cuda: RuntimeError: " in detail
    assert "torch-cuda: PyTorch is not installed" in detail
    assert all(check.remedy for check in engine_checks.inference_checks(found, 2))


def test_the_first_engine_that_runs_is_taken_and_the_others_have_reasons(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [cuda.PROVIDER, "CPUExecutionProvider"])
    monkeypatch.setattr(cuda, "memory_bytes", lambda: 8_000_000_000)
    monkeypatch.setattr(cuda, "preload", lambda: ("Failed to load libcublas.so.13",))

    def no_driver():
        raise RuntimeError("no driver\nmore of it")

    monkeypatch.setitem(probe_inference.RUN, "cuda", no_driver)
    monkeypatch.setitem(probe_inference.RUN, "torch-cuda", lambda: None)
    monkeypatch.setattr(probe_inference.engines, "candidates", lambda: ["cuda", "torch-cuda", "onnxruntime"])
    found = probe_inference.examine()
    assert (found.engine, found.gpus, found.gpu_memory_bytes) == ("torch-cuda", 1, 8_000_000_000)
    assert found.unusable["cuda"] == "RuntimeError: no driver"
    assert found.not_preloaded == ["Failed to load libcublas.so.13"]


def test_onnx_runtime_is_said_to_run_on_cuda_only_where_it_does(monkeypatch):
    real, running = onnxruntime.InferenceSession, ["CPUExecutionProvider"]

    class Session:
        def __init__(self, model, providers, **others):
            assert len(providers) == 1
            assert others == {"enable_fallback": 0}, "else it prints, and goes on without CUDA"
            self.run = real(model, providers=["CPUExecutionProvider"]).run

        def get_providers(self):
            return running

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [cuda.PROVIDER, "CPUExecutionProvider"])
    monkeypatch.setattr(cuda, "preload", lambda: ("Failed to load libcudnn.so.9",))
    assert probe.probe_onnxruntime()[1] == "CPU"
    with pytest.raises(RuntimeError, match=r"cannot load its provider for CUDA; Failed to load libcudnn"):
        probe.run_on_cuda()
    running.insert(0, cuda.PROVIDER)
    assert probe.probe_onnxruntime()[1] == "CPU and CUDA"


BARE = """
import importlib.metadata, socket, sys

ABSENT = {absent!r}


class Without:
    def __init__(self, finder):
        self._finder = finder

    def __getattr__(self, name):
        return getattr(self._finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else self._finder.find_spec(name, path, target)


sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
found = importlib.metadata.Distribution.from_name


def from_name(name):
    if name == "fatescope":
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)


importlib.metadata.Distribution.from_name = staticmethod(from_name)


def connect(self, address):
    raise OSError("there is no network")


socket.socket.connect = connect
"""
"""Every process of such a Python lacks what a bare machine lacks, and the package itself, which runs from sources."""

CORE = {"imagecodecs", "numpy", "onnxruntime", "pandas", "PIL", "pyarrow", "pydantic", "ruamel", "safetensors", "typer"}
ABSENT = {
    "bentoml", "boto3", "dvc", "fastapi", "great_expectations", "httptools", "httpx", "jinja2", "markdown_it",
    "matplotlib", "mlflow", "onnx", "onnxscript", "openvino", "optuna", "orjson", "prometheus_client",
    "pydantic_settings", "ray", "scipy", "starlette", "threadpoolctl", "tifffile", "torchvision", "tqdm", "uvicorn",
    "uvloop",
}  # fmt: skip
"""All but the core, PyTorch and scikit-learn, which tells of SciPy."""

INFERENCE = """
import sys
from pathlib import Path
from service.inference import engines

folder = Path(sys.argv[1])
for name in sys.argv[2:]:
    loaded, engine = engines.start(folder, name, 1)
    print(engine, len(loaded.classify(list(loaded.example))))
print(engines.candidates())
"""


def bare(tmp_path, *command):
    (tmp_path / "sitecustomize.py").write_text(BARE.format(absent=ABSENT))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_bare_machine_has_a_doctor(tmp_path):
    assert not CORE & ABSENT
    done = bare(tmp_path, "-m", "fatescope.cli", "doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["Python"]["state"] == "ok"
    assert checks["onnxruntime"]["state"] == "ok"
    assert checks["openvino"]["detail"] == "ModuleNotFoundError: No module named 'openvino'"
    assert checks["inference"]["state"] == "ok"
    assert checks["inference"]["detail"].startswith("the service takes the engine onnxruntime")


@pytest.mark.slow
def test_a_bare_machine_runs_bundles(tmp_path):
    names = ["onnxruntime", "torch"] if importlib.util.find_spec("torch") else ["onnxruntime"]
    done = bare(tmp_path, "-c", INFERENCE, str(COMMITTED / "binary"), *names)
    assert (done.returncode, done.stderr) == (0, "")
    cells = len(load_file(COMMITTED / "binary" / bundle.TEST)["pixels"])
    assert done.stdout.splitlines() == [*(f"{name} {cells}" for name in names), "['onnxruntime']"]


def test_a_python_is_checked_where_the_package_is_not_installed(monkeypatch):
    def absent(name):
        raise doctor.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "metadata", absent)
    check = doctor.check_python()
    assert (check.state, check.required) == ("ok", True)
