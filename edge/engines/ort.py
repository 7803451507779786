"""ONNX Runtime on the CPU, behind the Engine protocol."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import onnxruntime as ort

from edge.bundle import Bundle
from edge.engines.engine import EngineTiming
from edge.errors import EngineError
from edge.frame import Image
from edge.manifest import Precision, Preprocessing
from edge.pixel_format import PixelFormat
from edge.preprocess import preprocess
from edge.quality import sum_up
from edge.slots import Owner, Slot
from edge.verdict import tile_maxima

OUTPUTS = ("anomaly_map", "score")


def default_threads() -> int:
    """All cores this process may use but one, which is left to the camera and the network; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def open_session(model: Path | bytes, threads: int = 0, spins: bool = True) -> ort.InferenceSession:
    """A network in ONNX Runtime on the CPU.

    Args:
        model: ONNX file, or its content.
        threads: that compute; 0 for one per core.
        spins: whether they keep their cores between two runs.

    Raises:
        EngineError: ONNX Runtime refuses it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
    options.log_severity_level = 3
    try:
        source = model if isinstance(model, bytes) else str(model)
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason, name = " ".join(str(error).split()), "the network" if isinstance(model, bytes) else f"'{model}'"
        raise EngineError(f"ONNX Runtime cannot load {name} ({reason})", "export the bundle again") from error


@dataclass(slots=True)
class _Binding:
    io: ort.IOBinding
    done: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    preprocess_ms: float = 0.0
    infer_ms: float = 0.0


class OrtEngine:
    """One worker thread that runs the bundle's ONNX file; inputs and outputs stay in the slots' own buffers."""

    def __init__(self, bundle: Bundle, precision: Precision, threads: int | None) -> None:
        """Load the variant.

        Args:
            bundle: a verified bundle.
            precision: which variant.
            threads: cores for the network; None takes `default_threads()`.

        Raises:
            BundleError: the bundle has no such variant.
            EngineError: ONNX Runtime refuses the file.
        """
        variant = bundle.variant(precision)
        # Idle workers must sleep: spinning takes the core that the camera and the publisher need.
        self._session = open_session(bundle.path / variant.file, threads or default_threads(), spins=False)
        self._precision = precision
        self._artefact_sha256 = bundle.manifest.files[variant.file]
        self._pixel_threshold = bundle.manifest.pixel_threshold.value
        self._bindings: dict[int, _Binding] = {}
        self._queue: SimpleQueue[Slot | None] = SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="engine", daemon=True)
        self._worker.start()

    @property
    def precision(self) -> str:
        return self._precision

    @property
    def artefact_sha256(self) -> str:
        return self._artefact_sha256

    def bind(self, slot: Slot) -> None:
        io = self._session.io_binding()
        io.bind_input("image", "cpu", 0, slot.image.dtype.type, slot.image.shape, slot.image.ctypes.data)
        for name, array in zip(OUTPUTS, (slot.anomaly_map, slot.score), strict=True):
            io.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        self._bindings[slot.index] = _Binding(io)

    def adopt(self, memory: Image | None) -> None:
        pass

    def enqueue(self, slot: Slot, image: Image, pixel_format: PixelFormat, settings: Preprocessing) -> None:
        binding = self._bindings[slot.index]
        started_ns = time.perf_counter_ns()
        preprocess(image, pixel_format, settings, slot.image[0])
        binding.preprocess_ms = (time.perf_counter_ns() - started_ns) / 1e6
        slot.hand_over(Owner.HOST, Owner.ENGINE)
        binding.done.clear()
        binding.error = None
        self._queue.put(slot)

    def wait(self, slot: Slot, timeout_s: float) -> bool:
        binding = self._bindings[slot.index]
        if not binding.done.wait(timeout_s):
            return False
        slot.hand_over(Owner.ENGINE, Owner.HOST)
        if binding.error is not None:
            raise EngineError(f"ONNX Runtime failed ({binding.error})") from binding.error
        return True

    def fetch(self, slot: Slot) -> None:
        np.greater_equal(slot.anomaly_map[0], self._pixel_threshold, out=slot.above, casting="unsafe")

    def timing(self, slot: Slot) -> EngineTiming:
        binding = self._bindings[slot.index]
        return EngineTiming(0.0, binding.preprocess_ms, binding.infer_ms)

    def idle(self) -> None:
        pass

    def close(self) -> None:
        self._queue.put(None)
        self._worker.join()

    def _work(self) -> None:
        while (slot := self._queue.get()) is not None:
            binding = self._bindings[slot.index]
            started_ns = time.perf_counter_ns()
            try:
                self._session.run_with_iobinding(binding.io)
                slot.maxima[:] = tile_maxima(slot.anomaly_map[0])
                sum_up(slot.image[0], slot.quality_sums)
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to this slot's owner
                binding.error = error
            binding.infer_ms = (time.perf_counter_ns() - started_ns) / 1e6
            binding.done.set()
