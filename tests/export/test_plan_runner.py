"""The runner of plans, on a played GPU that does what a stream was given only when it is waited for.

What it calls of TensorRT is checked against the real bindings, see tests/edge/engines/test_trt_compat.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge.engines import trt_compat
from edge.errors import AcceleratorError, EngineError

PLAN = b"a plan"


class PlayedCuda(ModuleType):
    """`pycuda.driver` with memory that is only addresses, and streams that are lists of what is still to do."""

    class Error(Exception):
        """As PyCUDA's."""

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.memory: dict[int, np.ndarray] = {}
        self.streams: dict[int, list[Callable[[], None]]] = {}
        self.current = 0
        self.Context = SimpleNamespace(pop=self._pop)
        context = SimpleNamespace(push=self._push)
        self.device = SimpleNamespace(
            retain_primary_context=lambda: context, name=lambda: "Played GPU", compute_capability=lambda: (8, 7)
        )

    def init(self) -> None:
        """There is a GPU."""

    def Device(self, number: int) -> Any:  # noqa: N802 - PyCUDA's name
        assert number == 0
        return self.device

    def get_driver_version(self) -> int:
        return 12060

    def _push(self) -> None:
        self.current += 1

    def _pop(self) -> None:
        self.current -= 1

    def mem_alloc(self, nbytes: int) -> int:
        assert self.current == 1
        address = 4096 * (len(self.memory) + 1)
        self.memory[address] = np.full(nbytes, 0xFF, np.uint8)
        return address

    def Stream(self) -> Any:  # noqa: N802 - PyCUDA's name
        handle, queue = len(self.streams) + 1, []
        self.streams[handle] = queue

        def synchronize() -> None:
            while queue:
                queue.pop(0)()

        return SimpleNamespace(handle=handle, synchronize=synchronize)

    def memcpy_htod_async(self, address: int, host: np.ndarray, stream: Any) -> None:
        assert host.flags.c_contiguous
        self.streams[stream.handle].append(lambda: np.copyto(self.memory[address], host.view(np.uint8).ravel()))

    def memcpy_dtoh_async(self, host: np.ndarray, address: int, stream: Any) -> None:
        self.streams[stream.handle].append(lambda: np.copyto(host.view(np.uint8).ravel(), self.memory[address]))


class PlayedContext:
    """An engine and its context: the map is the mean of the channels, the score its maximum."""

    def __init__(self, cuda: PlayedCuda) -> None:
        self.cuda, self.addresses, self.shape = cuda, {}, ()
        self.runs = True

    def create_execution_context(self) -> PlayedContext:
        return self

    def set_input_shape(self, name: str, shape: list[int]) -> bool:
        assert name == "image"
        self.shape = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> list[int]:
        return list({"anomaly_map": self.shape[:3], "score": self.shape[:1]}[name])

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, handle: int) -> bool:
        self.cuda.streams[handle].append(self._compute)
        return self.runs

    def _compute(self) -> None:
        image, anomaly_map, score = (self.cuda.memory[self.addresses[n]] for n in ("image", "anomaly_map", "score"))
        grey = image.reshape(self.shape).mean(3, dtype=np.float32)
        anomaly_map.view(np.float32)[:] = grey.ravel()
        score.view(np.float32)[:] = grey.max((1, 2))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedCuda]:
    cuda = PlayedCuda()
    engine = PlayedContext(cuda)

    class Runtime:
        def __init__(self, logger: object) -> None:
            pass

        def deserialize_cuda_engine(self, plan: bytes) -> PlayedContext | None:
            return engine if plan == PLAN else None

    tensorrt = ModuleType("tensorrt")
    tensorrt.__dict__.update(Runtime=Runtime, Dims=list, __version__="10.3.0")
    cuda.engine = engine
    pycuda = ModuleType("pycuda")
    pycuda.driver = cuda
    for name, module in (("pycuda", pycuda), ("pycuda.driver", cuda), ("tensorrt", tensorrt)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(trt_compat, "logger", lambda: (object(), trt_compat.Messages()))
    yield cuda
    sys.modules.pop("export.plan_runner", None)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 8, 6, 3), dtype=np.uint8)


def test_every_image_gets_its_own_answer(cuda: PlayedCuda, images: np.ndarray) -> None:
    from export.plan_runner import GpuPlanRunner

    with GpuPlanRunner() as gpu:
        maps, scores = gpu.run(PLAN, images)
    expected = images.mean(3, dtype=np.float32)
    np.testing.assert_allclose(maps, expected)
    np.testing.assert_allclose(scores, expected.max((1, 2)))
    assert maps.dtype == scores.dtype == np.float32
    assert not any(cuda.streams.values())


def test_the_facts_are_the_devices(cuda: PlayedCuda) -> None:
    from export.plan_runner import GpuPlanRunner

    with GpuPlanRunner() as gpu:
        facts = gpu.facts
    assert (facts.gpu, facts.compute_capability, facts.driver) == ("Played GPU", (8, 7), "12.6")
    assert facts.tensorrt == "10.3.0"


def test_the_context_is_given_back_whatever_happens(cuda: PlayedCuda, images: np.ndarray) -> None:
    from export.plan_runner import GpuPlanRunner

    with pytest.raises(EngineError, match="cannot load the plan"), GpuPlanRunner() as gpu:
        gpu.run(b"no plan", images)
    assert cuda.current == 0
    cuda.engine.runs = False
    with pytest.raises(EngineError, match="TensorRT cannot run the plan"), GpuPlanRunner() as gpu:
        gpu.run(PLAN, images)
    assert cuda.current == 0


def test_a_full_gpu_is_said(cuda: PlayedCuda, images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    from export.plan_runner import GpuPlanRunner

    def refuse(_: int) -> int:
        raise cuda.Error("out of memory")

    monkeypatch.setattr(cuda, "mem_alloc", refuse)
    with pytest.raises(EngineError, match=r"cannot run the plan \(out of memory\)"), GpuPlanRunner() as gpu:
        gpu.run(PLAN, images)


def test_a_machine_without_gpu_is_refused(cuda: PlayedCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    from export.plan_runner import GpuPlanRunner

    def refuse() -> None:
        raise cuda.Error("no CUDA-capable device is detected")

    monkeypatch.setattr(cuda, "init", refuse)
    with pytest.raises(AcceleratorError, match=r"no NVIDIA GPU answers \(no CUDA-capable device"):
        GpuPlanRunner()
