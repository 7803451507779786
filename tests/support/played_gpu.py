"""NVIDIA's real parser and builder, and a GPU to run the plans that is played."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from edge.engines.device import DeviceFacts

FACTS = DeviceFacts(gpu="Played GPU", compute_capability=(8, 6), driver="13.0", l4t="36.4.3", tensorrt="1.7.1.116")


@dataclass
class PlayedGpu:
    """Answers as ONNX Runtime does, off by a share of the largest value; counts the plans it ran."""

    onnx_file: Path
    error: float = 0.0
    facts: DeviceFacts = FACTS
    plans: list[bytes] = field(default_factory=list)

    def run(self, plan: bytes, precision: str, images: np.ndarray) -> Any:
        self.plans.append(plan)
        session = ort.InferenceSession(str(self.onnx_file), providers=["CPUExecutionProvider"])
        anomaly_map, score = session.run(None, {"image": images})
        return anomaly_map + self.error * anomaly_map.max(), score


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """TensorRT for RTX in TensorRT's place."""
    rtx = pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX, which this platform has not")
    monkeypatch.setitem(sys.modules, "tensorrt", rtx)
    yield rtx
    sys.modules.pop("export.build_engine", None)
