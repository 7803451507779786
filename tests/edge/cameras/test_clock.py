"""The camera's clock: the truth never leaves the interval, and more readings never widen it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.cameras.clock import DRIFT_PPM, CameraClock, ClockMap, combine, read_between

MS = 1_000_000
readings = st.lists(
    st.tuples(st.integers(0, 2_000 * MS), st.integers(0, 50 * MS), st.integers(0, 50 * MS)), min_size=1, max_size=30
)


@given(offset_ns=st.integers(-(10**18), 10**18), drift_ppm=st.integers(-DRIFT_PPM, DRIFT_PPM), readings=readings)
def test_the_truth_lies_within_the_uncertainty(
    offset_ns: int, drift_ppm: int, readings: list[tuple[int, int, int]]
) -> None:
    known, host_ns = None, 10**12

    def camera_clock(at_ns: int) -> int:
        return at_ns - offset_ns - (at_ns - 10**12) * drift_ppm // 1_000_000

    for pause_ns, before_ns, after_ns in readings:
        host_ns += pause_ns + before_ns
        shown_ns = camera_clock(host_ns)
        reading = read_between(shown_ns, host_ns - before_ns, host_ns + after_ns)
        slack_ns = after_ns * DRIFT_PPM // 1_000_000 + 2  # what is known is known of the later time
        assert known is None or known.agrees_with(reading)
        narrower = combine(known, reading)
        assert narrower.uncertainty_ns <= reading.uncertainty_ns
        if known is not None:
            assert narrower.uncertainty_ns <= known.at(narrower.at_ns).uncertainty_ns
        known = narrower
        assert abs(known.host_ns(shown_ns) - host_ns) <= known.uncertainty_ns + slack_ns
        assert known.latest_ns(shown_ns) >= host_ns - slack_ns


@given(low_ns=st.integers(-(10**18), 10**18), width_ns=st.integers(0, 10**9), later_ns=st.integers(0, 10**10))
def test_knowledge_ages(low_ns: int, width_ns: int, later_ns: int) -> None:
    known = ClockMap(low_ns, low_ns + width_ns, 0)
    aged = known.at(later_ns)
    assert aged.low_ns < known.low_ns
    assert aged.high_ns > known.high_ns
    assert aged.uncertainty_ns >= known.uncertainty_ns + later_ns * DRIFT_PPM // 1_000_000


def test_a_clock_that_was_set_is_learnt_anew() -> None:
    known = read_between(1_000 * MS, 5_000 * MS, 5_001 * MS)
    fresh = read_between(1 * MS, 5_100 * MS, 5_101 * MS)
    assert not known.agrees_with(fresh)
    assert combine(known, fresh) == fresh
    assert abs(fresh.host_ns(2 * MS) - 5_101 * MS) <= fresh.uncertainty_ns


def test_the_fastest_frame_comes_closest() -> None:
    known = None
    for number, delay_ns in enumerate((30 * MS, 12 * MS, 45 * MS)):
        exposed_ns = (100 + 50 * number) * MS
        known = combine(known, read_between(exposed_ns, 90 * MS, exposed_ns + delay_ns))
    assert known is not None
    assert 12 * MS <= known.high_ns < 12.1 * MS


@given(
    offset_ns=st.integers(-(10**18), 10**18),
    latch=st.booleans(),
    frames=st.lists(st.tuples(st.integers(MS, 500 * MS), st.integers(0, 40 * MS)), min_size=1, max_size=20),
)
def test_no_frame_of_the_acquisition_seems_older_than_it_is(
    offset_ns: int, latch: bool, frames: list[tuple[int, int]]
) -> None:
    began_ns = 10**12
    latched = read_between(began_ns - offset_ns, began_ns - MS, began_ns + MS) if latch else None
    clock, host_ns = CameraClock(latched, began_ns), began_ns
    for pause_ns, delay_ns in frames:
        host_ns += pause_ns
        known = clock.see(host_ns - offset_ns, host_ns + delay_ns)
        assert known.latest_ns(host_ns - offset_ns) >= host_ns
        assert clock.is_latched is latch


def test_a_frame_left_over_is_known_by_the_latched_clock() -> None:
    began_ns = 5_000 * MS
    clock = CameraClock(read_between(100 * MS, began_ns - MS, began_ns), began_ns)
    before = clock.known
    known = clock.see(70 * MS, began_ns + 10 * MS)
    assert known == before
    assert known.latest_ns(70 * MS) < began_ns
    assert clock.is_latched


def test_a_latch_of_another_clock_is_not_believed() -> None:
    began_ns = 5_000_000 * MS
    for frame_ns in (10**18, 3):
        clock = CameraClock(read_between(4_000_000 * MS, began_ns - MS, began_ns), began_ns)
        known = clock.see(frame_ns, began_ns + 10 * MS)
        assert not clock.is_latched
        assert began_ns <= known.latest_ns(frame_ns) <= began_ns + 10 * MS
