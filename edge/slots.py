"""The double buffer: a ring of slots, each with one owner at a time and buffers allocated once."""

from __future__ import annotations

from enum import Enum

import numpy as np

from edge.frame import Image
from edge.quality import QualitySums
from edge.verdict import AnomalyMap, tiles


class Owner(Enum):
    """Who may touch a slot's buffers."""

    NOBODY = "nobody"
    HOST = "host"
    ENGINE = "engine"


class Slot:
    """Host buffers for one frame on its way from pixels to verdict.

    What every verdict needs is there when the engine is done:

    Attributes:
        score: float32 (1,), the network's output.
        maxima: float32 (rows, columns), of the map's tiles.
        quality_sums: int64 (3,), of the image.

    The rest is there once it was fetched:

    Attributes:
        image: uint8 (1, H, W, 3), the network's input.
        anomaly_map: float32 (1, H, W), the network's output.
        above: uint8 (H, W), 1 where the map reaches the pixel threshold.
    """

    __slots__ = ("_owner", "above", "anomaly_map", "image", "index", "maxima", "quality_sums", "score")

    def __init__(self, index: int, size_hw: tuple[int, int]) -> None:
        self.index = index
        self._owner = Owner.NOBODY
        self.allocate(size_hw)

    def allocate(self, size_hw: tuple[int, int]) -> None:
        """Ordinary memory for all buffers; an engine may put its own in their place."""
        self.score = np.zeros(1, np.float32)
        self.maxima: AnomalyMap = np.zeros(tiles(size_hw), np.float32)
        self.quality_sums: QualitySums = np.zeros(3, np.int64)
        self.image: Image = np.zeros((1, *size_hw, 3), np.uint8)
        self.anomaly_map: AnomalyMap = np.zeros((1, *size_hw), np.float32)
        self.above: Image = np.zeros(size_hw, np.uint8)

    @property
    def owner(self) -> Owner:
        """Who may touch the buffers now."""
        return self._owner

    def hand_over(self, giver: Owner, taker: Owner) -> None:
        """Pass the slot on.

        Raises:
            RuntimeError: `giver` does not own it; a program error that would corrupt a frame.
        """
        if self._owner is not giver:
            raise RuntimeError(f"slot {self.index} belongs to {self._owner.value}, not to {giver.value}")
        self._owner = taker


class SlotRing:
    """Two slots or more, used in turn."""

    def __init__(self, depth: int, size_hw: tuple[int, int]) -> None:
        if depth < 2:
            raise ValueError(f"a ring of {depth} slots cannot overlap copy and compute; it needs at least 2")
        self.slots = tuple(Slot(index, size_hw) for index in range(depth))
        self._next = 0

    @property
    def has_free(self) -> bool:
        """Whether `acquire` would succeed."""
        return self.slots[self._next].owner is Owner.NOBODY

    def acquire(self) -> Slot:
        """The next slot in turn, owned by the host.

        Raises:
            RuntimeError: it is still in use.
        """
        slot = self.slots[self._next]
        slot.hand_over(Owner.NOBODY, Owner.HOST)
        self._next = (self._next + 1) % len(self.slots)
        return slot

    def release(self, slot: Slot) -> None:
        """Give a slot back; the host must own it."""
        slot.hand_over(Owner.HOST, Owner.NOBODY)
