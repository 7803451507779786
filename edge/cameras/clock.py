"""The camera's clock in terms of the host's: an interval that the difference certainly lies in."""

from __future__ import annotations

from dataclasses import dataclass

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
        drift_ns = abs(now_ns - self.at_ns) * DRIFT_PPM // 1_000_000 + 1
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
    return ClockMap(earliest_ns - camera_ns, latest_ns - camera_ns, latest_ns)


def combine(known: ClockMap | None, newer: ClockMap) -> ClockMap:
    """Both together; the newer alone when they contradict each other."""
    if known is None or not known.agrees_with(newer):
        return newer
    earlier = known.at(newer.at_ns)
    return ClockMap(max(earlier.low_ns, newer.low_ns), min(earlier.high_ns, newer.high_ns), newer.at_ns)
