"""A camera's figures: sums over its connections."""

from __future__ import annotations

from edge.cameras.statistics import CameraStatistics, SignOfLife, StatisticsCounter, TransportCounts


def test_nothing_came_yet() -> None:
    assert StatisticsCounter().snapshot() == CameraStatistics()


def test_figures_go_on_over_a_lost_connection() -> None:
    counter = StatisticsCounter()
    counter.count_connection()
    for latency_ns in (1_000_000, 2_000_000, None, 9_000_000):
        counter.count_frame(is_complete=latency_ns is not None, latency_ns=latency_ns)
    counter.update(SignOfLife(duplicates=1, stale=0, transport=TransportCounts(2), clock_uncertainty_ns=1500))
    counter.update(SignOfLife(duplicates=2, stale=1, transport=TransportCounts(2), clock_uncertainty_ns=2500))
    counter.count_missing(4)
    counter.count_connection()
    lost = counter.snapshot()
    assert (lost.delivered, lost.incomplete, lost.missing, lost.reconnects) == (4, 1, 4, 1)
    assert (lost.duplicates, lost.stale, lost.underruns, lost.clock_uncertainty_us) == (2, 1, 2, None)
    counter.update(SignOfLife(duplicates=0, stale=5, transport=TransportCounts(1), clock_uncertainty_ns=300))
    back = counter.snapshot()
    assert (back.duplicates, back.stale, back.underruns, back.clock_uncertainty_us) == (2, 6, 3, 0.3)
    assert back.latency_p50_ms == 2.0
    assert back.latency_p99_ms is not None
    assert 8.8 < back.latency_p99_ms <= 9.0
