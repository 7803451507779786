"""Which messages of the outbox go next: live ones at once, the backlog of an outage behind them, at a limited rate."""

from __future__ import annotations

from edge.outbox import Outbox, Row

_BURST_S = 0.005


class Pace:
    """How much of what is not urgent may be sent now: a few at a time, so that what is urgent never waits for many."""

    def __init__(self, rate_hz: float) -> None:
        """`rate_hz` messages per second on average."""
        self._rate_hz = rate_hz
        self._burst = max(1.0, rate_hz * _BURST_S)
        self._allowance = self._burst
        self._at_s = 0.0

    def allowance(self, now_s: float) -> int:
        """Messages that may be sent."""
        self._allowance = min(self._burst, self._allowance + max(0.0, now_s - self._at_s) * self._rate_hz)
        self._at_s = now_s
        return int(self._allowance)

    def spend(self, messages: int) -> None:
        """So many were sent."""
        self._allowance -= messages

    def until_next_s(self) -> float:
        """Seconds from the last question until one more may be sent."""
        return max(0.0, (1.0 - self._allowance) / self._rate_hz)


class Feed:
    """Reads the outbox once through for one connection; what was there at its start is the backlog."""

    def __init__(self, outbox: Outbox, pace: Pace) -> None:
        self._outbox = outbox
        self._pace = pace
        self._live_after = self._boundary = outbox.last_id
        self._backlog_after = 0
        self._has_backlog = outbox.count() > 0

    @property
    def has_backlog(self) -> bool:
        """Whether messages from before its start are left."""
        return self._has_backlog

    def take(self, room: int, now_s: float) -> list[Row]:
        """At most `room` messages that were not taken yet.

        Raises:
            OutboxError: the file cannot be read.
        """
        rows = self._take_live(room)
        if self._has_backlog and len(rows) < room:
            rows += self._take_backlog(room - len(rows), now_s)
        return rows

    def _take_live(self, room: int) -> list[Row]:
        newest = self._outbox.last_id
        if newest == self._live_after or room <= 0:
            return []
        rows = self._outbox.pending(room, self._live_after, newest)
        self._live_after = rows[-1].id if len(rows) == room else newest
        return rows

    def _take_backlog(self, room: int, now_s: float) -> list[Row]:
        limit = min(room, self._pace.allowance(now_s))
        if not limit:
            return []
        rows = self._outbox.pending(limit, self._backlog_after, self._boundary)
        self._pace.spend(len(rows))
        if len(rows) < limit:
            self._has_backlog = False
        else:
            self._backlog_after = rows[-1].id
        return rows
