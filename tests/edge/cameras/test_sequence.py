"""Order of frames: ids that wrap, gaps counted once, nothing old taken for new."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cameras.sequence import FrameSequence, Step, id_step

GOOD = Step("", 0)


def shown(count: int, counts_zero: bool) -> int:
    """The id of the `count`-th exposure of a camera with 16-bit ids, from 0 or, without a 0, from 1."""
    return count % 65536 if counts_zero else count % 65535 + 1


@given(start=st.integers(0, 200_000), steps=st.lists(st.integers(1, 30_000), max_size=30), counts_zero=st.booleans())
def test_every_lost_frame_is_missing_once_over_the_wrap(start: int, steps: list[int], counts_zero: bool) -> None:
    sequence = FrameSequence()
    sequence.follow(0, None) if counts_zero else sequence.follow(1, None)
    count, missing = 0, 0
    for step in [start % 30_000 + 1, *steps]:
        count += step
        found = sequence.follow(shown(count, counts_zero), None)
        assert found.fault == ""
        missing += found.missing
    assert missing == count - len(steps) - 1


@given(last=st.integers(0, 2**48), step=st.integers(1, 2**40))
def test_wide_ids_do_not_wrap(last: int, step: int) -> None:
    assert id_step(last, last + step, counts_zero=True) == step
    if last >= 65536:
        assert id_step(last, max(last - step, 0), counts_zero=True) == max(-step, -last)


@pytest.mark.parametrize(
    ("last", "new", "counts_zero", "step"),
    [(65535, 0, True, 1), (65535, 1, True, 2), (65535, 1, False, 1), (65535, 0, False, 1), (5, 3, True, -2)],
)
def test_the_wrap(last: int, new: int, counts_zero: bool, step: int) -> None:
    assert id_step(last, new, counts_zero=counts_zero) == step


@given(
    ids=st.lists(st.integers(1, 20), min_size=1, max_size=10),
    repeats=st.lists(st.integers(0, 3), min_size=10, max_size=10),
)
def test_repetitions_are_told_and_never_counted_twice(ids: list[int], repeats: list[int]) -> None:
    sequence = FrameSequence()
    frame_id, time_ns, answers = 0, 0, 0
    sequence.follow(frame_id, time_ns)
    for step, repeat in zip(ids, repeats, strict=False):
        for _ in range(repeat):
            assert sequence.follow(frame_id, time_ns) == Step("duplicate_frame", 0)
        frame_id, time_ns = frame_id + step, time_ns + 1000 * step
        found = sequence.follow(frame_id, time_ns)
        assert found.fault == ""
        answers = repeat + found.missing
        assert answers == max(step - 1, repeat)  # each exposure lost in the gap has one answer


def test_frames_out_of_the_past() -> None:
    sequence = FrameSequence()
    assert sequence.follow(10, 1000) == GOOD
    assert sequence.follow(11, 1000) == Step("stale_frame", 0)
    assert sequence.follow(12, 2000) == GOOD
    assert sequence.follow(9, 900) == Step("stale_frame", 0)
    assert sequence.follow(13, 3000) == GOOD


def test_a_counter_that_began_anew_is_no_fault_if_time_goes_on() -> None:
    sequence = FrameSequence()
    sequence.follow(40_000, 1000)
    assert sequence.follow(30_000, 2000) == GOOD
    assert sequence.follow(30_001, 3000) == GOOD
    without_times = FrameSequence()
    without_times.follow(40_000, None)
    assert without_times.follow(30_000, None) == Step("stale_frame", 0)


def test_a_clock_that_was_set_costs_one_frame() -> None:
    sequence = FrameSequence()
    sequence.follow(1, 10**15)
    assert sequence.follow(2, 500) == Step("stale_frame", 0)
    assert sequence.follow(3, 600) == GOOD


def test_a_frame_that_lost_its_id_fills_a_gap() -> None:
    sequence = FrameSequence()
    steps = [sequence.follow(frame_id, None) for frame_id in (None, 7, None, 9, None, 13)]
    assert [step.missing for step in steps] == [0, 0, 0, 0, 0, 2]
    assert {step.fault for step in steps} == {""}
