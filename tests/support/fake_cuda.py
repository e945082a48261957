"""ONNX Runtime as on a machine with a GPU: its provider is the processor under the name of CUDA."""

import onnxruntime

from fatescope.inference import cuda

CUDA = [cuda.PROVIDER, "CPUExecutionProvider"]


class FakeSessions:
    """Takes the place of `onnxruntime.InferenceSession`, and keeps what it was asked for."""

    def __init__(self, running=CUDA, error=None):
        """`running` are the providers that a session ends up with; `error` is raised by every run."""
        self.running, self.error = running, error
        self.started, self.runs = [], []
        self._real = onnxruntime.InferenceSession

    def __call__(self, model, options, providers, **others):
        [(name, settings)] = providers
        if name != cuda.PROVIDER:
            return self._real(model, options, providers=providers, **others)
        self.started.append((settings, others))
        return _Session(self, self._real(model, options, providers=["CPUExecutionProvider"]))


class _Session:
    def __init__(self, sessions, real):
        self._sessions, self._real = sessions, real
        self.get_inputs, self.get_providers = real.get_inputs, lambda: sessions.running

    def run(self, names, given):
        [(name, cells)] = given.items()
        self._sessions.runs.append((tuple(names), name, cells.dtype, len(cells)))
        if self._sessions.error:
            raise self._sessions.error
        return self._real.run(names, given)


def install(monkeypatch, **settings):
    """Have ONNX Runtime run on a GPU that is none, one with 10 GB of memory."""
    sessions = FakeSessions(**settings)
    monkeypatch.setattr(onnxruntime, "InferenceSession", sessions)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: CUDA)
    monkeypatch.setattr(cuda, "memory_bytes", lambda: 10**10)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    return sessions
