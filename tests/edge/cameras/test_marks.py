"""Marks in a buffer: every part of 2 kB that stays unwritten is seen, and an image as a whole leaves none."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.cameras.marks import STEP_BYTES, has_marks, write_marks


@given(size_bytes=st.integers(0, 20_000), seed=st.integers(0, 2**32 - 1))
def test_a_whole_image_leaves_no_mark(size_bytes: int, seed: int) -> None:
    memory = np.zeros(size_bytes, np.uint8)
    write_marks(memory)
    assert has_marks(memory) is (size_bytes >= 8)
    memory[:] = np.random.default_rng(seed).integers(0, 256, size_bytes, np.uint8)
    assert not has_marks(memory)


@given(data=st.data(), size_bytes=st.integers(2 * STEP_BYTES, 20_000))
def test_a_lost_part_is_seen_wherever_it_is(data: st.DataObject, size_bytes: int) -> None:
    memory = np.zeros(size_bytes, np.uint8)
    write_marks(memory)
    lost_bytes = data.draw(st.integers(STEP_BYTES + 8, size_bytes))
    start = data.draw(st.integers(0, size_bytes - lost_bytes))
    memory[:start] = memory[start + lost_bytes :] = 9
    assert has_marks(memory)


def test_a_lost_end_is_seen() -> None:
    memory = np.zeros(5000, np.uint8)
    write_marks(memory)
    memory[:4990] = 9
    assert has_marks(memory)
