"""What a camera delivered and what went wrong with it, since it was started."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

_LATENCIES = 1000


@dataclass(frozen=True, slots=True)
class CameraStatistics:
    """Figures since the start, over all connections.

    Attributes:
        delivered: frames handed on, those with a fault included.
        incomplete: of those delivered, in part or in the wrong size.
        missing: gaps in the frame ids, in frames.
        duplicates: frames that came a second time.
        stale: frames from before their trigger, or not later than the frame before.
        underruns: frames the transport layer lost for want of a buffer, as far as it tells.
        missing_packets: of incomplete frames, from the first gap on; Aravis only.
        resent_packets: lost on their way, and sent again; Aravis only.
        reconnects: connections after the first.
        latency_p50_ms: from the software trigger, or else from the exposure by the camera's clock, to the frame in the
            station's memory; of the last 1000 frames, None without any.
        latency_p99_ms: likewise.
        clock_uncertainty_us: how well the camera's clock is known; None without one.
    """

    delivered: int = 0
    incomplete: int = 0
    missing: int = 0
    duplicates: int = 0
    stale: int = 0
    underruns: int = 0
    missing_packets: int = 0
    resent_packets: int = 0
    reconnects: int = 0
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    clock_uncertainty_us: float | None = None


@dataclass(frozen=True, slots=True)
class TransportCounts:
    """What the transport layer lost or got again, as far as it tells; fields as in `CameraStatistics`."""

    underruns: int = 0
    missing_packets: int = 0
    resent_packets: int = 0

    def __add__(self, other: TransportCounts) -> TransportCounts:
        return TransportCounts(
            self.underruns + other.underruns,
            self.missing_packets + other.missing_packets,
            self.resent_packets + other.resent_packets,
        )


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """The grabber process works; its figures since this connection began."""

    duplicates: int
    stale: int
    transport: TransportCounts
    clock_uncertainty_ns: int | None


NOTHING_YET = SignOfLife(0, 0, TransportCounts(), None)


class StatisticsCounter:
    """Counts over the connections of one camera."""

    def __init__(self) -> None:
        self._delivered = self._incomplete = self._missing = self._connections = 0
        self._ended = self._now = NOTHING_YET
        self._latencies_ns: deque[int] = deque(maxlen=_LATENCIES)

    def count_frame(self, *, is_complete: bool, latency_ns: int | None) -> None:
        """A frame came."""
        self._delivered += 1
        self._incomplete += not is_complete
        if latency_ns is not None:
            self._latencies_ns.append(latency_ns)

    def count_missing(self, count: int) -> None:
        """A gap came."""
        self._missing += count

    def count_connection(self) -> None:
        """The camera streams anew."""
        self._connections += 1
        self._ended, self._now = _sum(self._ended, self._now), NOTHING_YET

    def update(self, sign: SignOfLife) -> None:
        """The newest figures of this connection."""
        self._now = sign

    def snapshot(self) -> CameraStatistics:
        """The figures now."""
        total = _sum(self._ended, self._now)
        latencies = np.fromiter(self._latencies_ns, np.float64) / 1e6
        p50, p99 = np.percentile(latencies, (50, 99)) if latencies.size else (None, None)
        uncertainty_ns = self._now.clock_uncertainty_ns
        return CameraStatistics(
            delivered=self._delivered,
            incomplete=self._incomplete,
            missing=self._missing,
            duplicates=total.duplicates,
            stale=total.stale,
            underruns=total.transport.underruns,
            missing_packets=total.transport.missing_packets,
            resent_packets=total.transport.resent_packets,
            reconnects=max(self._connections - 1, 0),
            latency_p50_ms=None if p50 is None else float(p50),
            latency_p99_ms=None if p99 is None else float(p99),
            clock_uncertainty_us=None if uncertainty_ns is None else uncertainty_ns / 1e3,
        )


def _sum(ended: SignOfLife, now: SignOfLife) -> SignOfLife:
    return SignOfLife(ended.duplicates + now.duplicates, ended.stale + now.stale, ended.transport + now.transport, None)
