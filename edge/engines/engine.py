"""The Engine protocol: what computes a slot's anomaly map from its image."""

from __future__ import annotations

from typing import Protocol

from edge.slots import Slot


class Engine(Protocol):
    """Computes slots one after another, in the order they were enqueued, beside the caller's thread."""

    @property
    def precision(self) -> str:
        """Numeric precision it computes in."""

    @property
    def artefact_sha256(self) -> str:
        """sha256 of the file it executes."""

    def bind(self, slot: Slot) -> None:
        """Prepare for a slot's buffers; once per slot, before the first `enqueue`."""

    def enqueue(self, slot: Slot) -> None:
        """Start on `slot.image`; the host hands the slot over to the engine."""

    def wait(self, slot: Slot, timeout_s: float) -> bool:
        """Whether the slot is done within `timeout_s`; if so its outputs are written and the host owns it again.

        Raises:
            EngineError: the computation failed; the host owns the slot again and its outputs mean nothing.
        """

    def infer_ms(self, slot: Slot) -> float:
        """Time the last computation of this slot took, in milliseconds."""

    def close(self) -> None:
        """Finish what was enqueued and free everything."""
