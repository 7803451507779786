import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.slots import Owner, SlotRing


def test_a_ring_has_at_least_two_slots():
    with pytest.raises(ValueError, match="at least 2"):
        SlotRing(1, (8, 8))


def test_a_slot_in_use_is_never_given_out():
    ring = SlotRing(2, (8, 8))
    ring.acquire()
    ring.acquire()
    assert not ring.has_free
    with pytest.raises(RuntimeError, match="slot 0 belongs to host"):
        ring.acquire()


def test_a_slot_the_engine_has_cannot_be_released():
    ring = SlotRing(2, (8, 8))
    slot = ring.acquire()
    slot.hand_over(Owner.HOST, Owner.ENGINE)
    with pytest.raises(RuntimeError, match="belongs to engine"):
        ring.release(slot)


@given(st.integers(2, 5), st.lists(st.booleans(), max_size=60))
def test_slots_come_in_turn_and_keep_their_buffers(depth, moves):
    ring = SlotRing(depth, (4, 4))
    addresses = [slot.image.ctypes.data for slot in ring.slots]
    held, given_out = [], 0
    for take in moves:
        assert ring.has_free == (len(held) < depth)
        if take and ring.has_free:
            slot = ring.acquire()
            assert slot.index == given_out % depth
            held.append(slot)
            given_out += 1
        elif not take and held:
            ring.release(held.pop(0))
    assert [slot.image.ctypes.data for slot in ring.slots] == addresses
