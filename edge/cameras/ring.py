"""A ring of image slots in memory that two processes share, each slot with exactly one owner.

The memory is an anonymous file (memfd): it has no name, so nothing is left behind however its processes end, and the
kernel frees it with the last view. Slots start on page boundaries, so they can be registered as page-locked memory.
"""

from __future__ import annotations

import math
import mmap
import os
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from edge.frame import Image


class Owner(IntEnum):
    """Who may touch a slot. Only the present owner passes it on, so no lock is needed."""

    FREE = 0
    GRABBER = 1
    IN_TRANSIT = 2
    CONSUMER = 3


@dataclass(frozen=True, slots=True)
class RingGeometry:
    """Number of slots and their size, as asked for."""

    slots: int
    slot_bytes: int

    @property
    def stride_bytes(self) -> int:
        """From one slot to the next: whole pages."""
        return -(-self.slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE

    @property
    def total_bytes(self) -> int:
        """All slots behind one page that holds the owners."""
        return mmap.PAGESIZE + self.slots * self.stride_bytes


class Ring:
    """One process's view of the ring: free → grabber → in transit → consumer → free.

    Args:
        descriptor: of the anonymous file; the ring keeps its own mapping, the caller closes the descriptor.
        geometry: the same on both sides.

    Attributes:
        memory: uint8, all of it.
    """

    def __init__(self, descriptor: int, geometry: RingGeometry) -> None:
        self.geometry = geometry
        self._owners = mmap.mmap(descriptor, geometry.total_bytes)  # one byte per slot, at the beginning
        self.memory = np.frombuffer(self._owners, dtype=np.uint8)

    def claim(self) -> int | None:
        """Grabber: take a free slot; None when there is none."""
        slot = self._find_free()
        if slot < 0:
            return None
        self._owners[slot] = Owner.GRABBER
        return slot

    def pass_on(self, slot: int) -> None:
        """Grabber: the slot is filled; its number goes to the consumer by another way."""
        self._hand_over(slot, Owner.GRABBER, Owner.IN_TRANSIT)

    def give_back(self, slot: int) -> None:
        """Grabber: the slot is not needed after all."""
        self._hand_over(slot, Owner.GRABBER, Owner.FREE)

    def accept(self, slot: int) -> None:
        """Consumer: the slot's number arrived."""
        self._hand_over(slot, Owner.IN_TRANSIT, Owner.CONSUMER)

    def release(self, slot: int) -> None:
        """Consumer: done with the slot."""
        self._hand_over(slot, Owner.CONSUMER, Owner.FREE)

    def owner(self, slot: int) -> Owner:
        """Who may touch the slot now."""
        return Owner(self._owners[slot])

    @property
    def has_free_slot(self) -> bool:
        """Whether `claim` would succeed."""
        return self._find_free() >= 0

    def image(self, slot: int, shape: tuple[int, ...]) -> Image:
        """The slot as an uint8 image of this shape, without copying; it stays valid as long as it is referred to.

        Raises:
            ValueError: the shape is larger than a slot.
        """
        size_bytes = math.prod(shape)
        if size_bytes > self.geometry.slot_bytes:
            raise ValueError(f"an image of {shape} does not fit a slot of {self.geometry.slot_bytes} bytes")
        start = mmap.PAGESIZE + slot * self.geometry.stride_bytes
        return self.memory[start : start + size_bytes].reshape(shape)

    def _find_free(self) -> int:
        return self._owners.find(bytes([Owner.FREE]), 0, self.geometry.slots)

    def _hand_over(self, slot: int, giver: Owner, taker: Owner) -> None:
        if self._owners[slot] != giver:
            raise ValueError(f"slot {slot} is owned by {self.owner(slot).name}, not by {giver.name}")
        self._owners[slot] = taker


def create_ring(geometry: RingGeometry) -> tuple[Ring, int]:
    """A new ring, all slots free, and the descriptor that lets another process map it; the caller closes it."""
    descriptor = os.memfd_create("tfanet-edge-ring", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, geometry.total_bytes)
    return Ring(descriptor, geometry), descriptor
