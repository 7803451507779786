"""The camera's clock in terms of the host's: an interval that the difference certainly lies in."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

# A frame that seems to be from so long before the acquisition began lay in the camera; one that seems older than that,
# or not to be taken yet, shows that its clock is not the one that was latched.
LEFT_OVER_NS = 60_000_000_000

_READINGS = 3

# How fast the two clocks may drift apart: quartz oscillators keep within 100 ppm each.
DRIFT_PPM = 200


@dataclass(frozen=True, slots=True)
class ClockMap:
    """Host clock minus camera clock lay within `low_ns`..`high_ns` at host time `at_ns`.

    All in nanoseconds; the host's clock is `time.monotonic_ns()`.
    """

    low_ns: int
    high_ns: int
    at_ns: int

    @property
    def uncertainty_ns(self) -> int:
        """Half the interval: how far `host_ns` may be off."""
        return -((self.low_ns - self.high_ns) // 2)

    def host_ns(self, camera_ns: int) -> int:
        """The host's time at a time of the camera, within `uncertainty_ns`."""
        return camera_ns + (self.low_ns + self.high_ns) // 2

    def latest_ns(self, camera_ns: int) -> int:
        """The latest that the host's time can have been then."""
        return camera_ns + self.high_ns

    def at(self, now_ns: int) -> ClockMap:
        """The same knowledge at another time, less certain by the drift."""
        drift_ns = _drift_ns(abs(now_ns - self.at_ns))
        return ClockMap(self.low_ns - drift_ns, self.high_ns + drift_ns, now_ns)

    def agrees_with(self, other: ClockMap) -> bool:
        """Whether both can be true; if not, one of the clocks was set meanwhile."""
        mine = self.at(other.at_ns)
        return mine.low_ns <= other.high_ns and other.low_ns <= mine.high_ns


def read_between(camera_ns: int, earliest_ns: int, latest_ns: int) -> ClockMap:
    """What follows from the camera's clock having shown `camera_ns` between two times of the host.

    A latched timestamp was taken between command and answer; a frame was exposed after the acquisition began and
    before it arrived, so that the fastest of many frames comes closest.
    """
    low_ns = earliest_ns - camera_ns - _drift_ns(latest_ns - earliest_ns)
    return ClockMap(low_ns, latest_ns - camera_ns, latest_ns)


def read_latched(latch: Callable[[], object], read_ns: Callable[[], int]) -> ClockMap:
    """Latch the camera's clock and read it, a few times; the quickest counts most."""
    readings = []
    for _ in range(_READINGS):
        earliest_ns = time.monotonic_ns()
        latch()
        latest_ns = time.monotonic_ns()
        readings.append(read_between(read_ns(), earliest_ns, latest_ns))
    return reduce(combine, readings)


def combine(known: ClockMap | None, newer: ClockMap) -> ClockMap:
    """Both together; the newer alone when they contradict each other."""
    if known is None or not known.agrees_with(newer):
        return newer
    earlier = known.at(newer.at_ns)
    return ClockMap(max(earlier.low_ns, newer.low_ns), min(earlier.high_ns, newer.high_ns), newer.at_ns)


def _drift_ns(duration_ns: int) -> int:
    """How far the clocks may have drifted apart in that time."""
    return duration_ns * DRIFT_PPM // 1_000_000 + 2


class CameraClock:
    """The camera's clock during one acquisition, known from latched timestamps and from frames.

    Args:
        latched: by the camera's own latch; None when it has none.
        began_ns: host time at which the acquisition began.

    Attributes:
        known: None as long as nothing is.
        is_latched: whether latched timestamps and the frames' agree.
    """

    def __init__(self, latched: ClockMap | None, began_ns: int) -> None:
        self.known = latched
        self.is_latched = latched is not None
        self._began_ns = began_ns

    def latch(self, latched: ClockMap) -> None:
        """A timestamp was latched again."""
        self.known = combine(self.known, latched)

    def see(self, camera_ns: int, received_ns: int) -> ClockMap:
        """A frame of the acquisition came; returns what is known with it."""
        seen = read_between(camera_ns, self._began_ns, received_ns)
        if self.known is None or self.known.agrees_with(seen):
            self.known = combine(self.known, seen)
        elif not 0 < self._began_ns - self.known.latest_ns(camera_ns) < LEFT_OVER_NS:
            self.known, self.is_latched = seen, False
        return self.known
