"""The Network protocol: what a GPU engine runs between preprocessing and verdict."""

from __future__ import annotations

from typing import Protocol


class Execution(Protocol):
    """A network with its tensors at fixed addresses; one per slot, so that several can be in flight."""

    def enqueue(self, stream: int) -> None:
        """Queue one frame's computation on a CUDA stream, given by its handle; allocates nothing, waits for nothing.

        Raises:
            EngineError: it was not queued.
        """


class Network(Protocol):
    """A network on the GPU; its methods are called with the context current."""

    @property
    def precision(self) -> str:
        """Numeric precision it computes in."""

    @property
    def artefact_sha256(self) -> str:
        """sha256 of the file it executes."""

    def bind(self, image: int, anomaly_map: int, score: int) -> Execution:
        """Prepare for tensors at these addresses on the GPU.

        Args:
            image: of uint8 (1, H, W, 3).
            anomaly_map: of float32 (1, H, W).
            score: of float32 (1,).
        """
