"""ONNX Runtime as on a machine with a GPU: its provider is the processor under the name of CUDA."""

import time
from contextlib import contextmanager

import onnxruntime

from fatescope.inference import cuda

CUDA = [cuda.PROVIDER, "CPUExecutionProvider"]


class FakeSessions:
    """Takes the place of `onnxruntime.InferenceSession`, and keeps what it was asked for."""

    def __init__(self, running=CUDA, error=None, pause_s=0):
        """`running` are the providers that a session ends up with; `error` is raised by every run.

        A run takes `pause_s` at least, in which another one may begin.
        """
        self.running, self.error, self.pause_s = running, error, pause_s
        self.started, self.runs = [], []
        self.at_a_time, self.most_at_a_time = 0, 0
        self._real = onnxruntime.InferenceSession

    def __call__(self, model, options, providers, **others):
        [(name, settings)] = providers
        if name != cuda.PROVIDER:
            return self._real(model, options, providers=providers, **others)
        self.started.append((settings, others))
        return _Session(self, self._real(model, options, providers=["CPUExecutionProvider"]))

    @contextmanager
    def counted(self):
        """Count the runs that go on at the same time."""
        self.at_a_time += 1
        self.most_at_a_time = max(self.most_at_a_time, self.at_a_time)
        yield
        self.at_a_time -= 1


class _Session:
    def __init__(self, sessions, real):
        self._sessions, self._real = sessions, real
        self.get_inputs, self.get_providers = real.get_inputs, lambda: sessions.running

    def run(self, names, given):
        [(name, cells)] = given.items()
        self._sessions.runs.append((tuple(names), name, cells.dtype, len(cells)))
        if self._sessions.error:
            raise self._sessions.error
        with self._sessions.counted():
            time.sleep(self._sessions.pause_s)
            return self._real.run(names, given)


def install(monkeypatch, **settings):
    """Have ONNX Runtime run on a GPU that is none, one with 10 GB of memory."""
    sessions = FakeSessions(**settings)
    monkeypatch.setattr(onnxruntime, "InferenceSession", sessions)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: CUDA)
    monkeypatch.setattr(cuda, "memory_bytes", lambda: 10**10)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    return sessions
