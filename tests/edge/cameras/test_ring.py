"""The shared ring: one owner per slot, whatever the order of events, and nothing left behind."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from edge.cameras.ring import Owner, Ring, RingGeometry, create_ring

SLOTS = 3
SLOT_BYTES = 6


def make_pair(geometry: RingGeometry) -> tuple[Ring, Ring]:
    """Both ends, each with a mapping of its own."""
    grabber, descriptor = create_ring(geometry)
    consumer = Ring(descriptor, geometry)
    os.close(descriptor)
    return grabber, consumer


class RingMachine(RuleBasedStateMachine):
    """Every slot has the owner that the sequence of calls gave it, and keeps the content its owner wrote."""

    written = Bundle("written")
    sent = Bundle("sent")
    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.grabber, self.consumer = make_pair(RingGeometry(SLOTS, SLOT_BYTES))
        self.model = dict.fromkeys(range(SLOTS), Owner.FREE)
        self.content: dict[int, int] = {}

    @precondition(lambda self: Owner.FREE in self.model.values())
    @rule(target=written, value=st.integers(0, 255))
    def claim(self, value: int) -> int:
        slot = self.grabber.claim()
        assert slot is not None
        assert self.model[slot] is Owner.FREE
        self.grabber.image(slot, (2, 3))[...] = value
        self.content[slot] = value
        self.model[slot] = Owner.GRABBER
        return slot

    @precondition(lambda self: Owner.FREE not in self.model.values())
    @rule()
    def claim_when_full(self) -> None:
        assert self.grabber.claim() is None

    @rule(target=sent, slot=consumes(written))
    def pass_on(self, slot: int) -> int:
        self.grabber.pass_on(slot)
        self.model[slot] = Owner.IN_TRANSIT
        return slot

    @rule(target=held, slot=consumes(sent))
    def accept(self, slot: int) -> int:
        self.consumer.accept(slot)
        self.model[slot] = Owner.CONSUMER
        return slot

    @rule(slot=consumes(held))
    def release(self, slot: int) -> None:
        assert (self.consumer.image(slot, (SLOT_BYTES,)) == self.content[slot]).all()
        self.consumer.release(slot)
        self.model[slot] = Owner.FREE

    @rule(slot=st.integers(0, SLOTS - 1), step=st.sampled_from(["pass_on", "accept", "release"]))
    def refuse_what_is_out_of_turn(self, slot: int, step: str) -> None:
        giver = {"pass_on": Owner.GRABBER, "accept": Owner.IN_TRANSIT, "release": Owner.CONSUMER}[step]
        if self.model[slot] is not giver:
            with pytest.raises(ValueError, match=f"slot {slot} is owned by"):
                getattr(self.consumer, step)(slot)

    @invariant()
    def both_ends_agree(self) -> None:
        for slot, owner in self.model.items():
            assert self.grabber.owner(slot) is owner
            assert self.consumer.owner(slot) is owner
        assert self.grabber.has_free_slot is (Owner.FREE in self.model.values())


TestRingMachine = RingMachine.TestCase


@given(slots=st.integers(1, 64), slot_bytes=st.integers(1, 20_000))
def test_slots_start_on_pages_and_do_not_overlap(slots: int, slot_bytes: int) -> None:
    ring, _ = make_pair(RingGeometry(slots, slot_bytes))
    images = [ring.image(slot, (slot_bytes,)) for slot in range(slots)]
    starts = [image.ctypes.data for image in images]
    assert all(start % mmap.PAGESIZE == 0 for start in starts)
    for number, image in enumerate(images):
        image[...] = number + 1
    assert [int(image[0]) for image in images] == [int(image[-1]) for image in images] == list(range(1, slots + 1))
    assert ring.has_free_slot


def test_consumer_sees_the_grabbers_bytes_without_a_copy() -> None:
    grabber, consumer = make_pair(RingGeometry(2, 12))
    view = consumer.image(1, (2, 2, 3))
    grabber.image(1, (2, 2, 3))[...] = np.arange(12).reshape(2, 2, 3)
    assert view.tolist() == np.arange(12).reshape(2, 2, 3).tolist()


def test_a_view_outlives_its_ring() -> None:
    grabber, consumer = make_pair(RingGeometry(1, 4))
    view = consumer.image(0, (4,))
    grabber.image(0, (4,))[...] = 7
    del grabber, consumer
    assert view.tolist() == [7, 7, 7, 7]


def test_too_large_an_image_is_refused() -> None:
    ring, _ = make_pair(RingGeometry(1, 4096))
    with pytest.raises(ValueError, match="does not fit a slot of 4096 bytes"):
        ring.image(0, (64, 65))


def test_nothing_has_a_name(new_shared_memory: Callable[[], set[str]]) -> None:
    rings = make_pair(RingGeometry(4, 100_000))
    assert new_shared_memory() == set()
    del rings
