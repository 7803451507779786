"""Which messages of the outbox go next: live ones at once, the backlog of an outage behind them, at a limited rate."""

from __future__ import annotations

from edge.outbox import Outbox, Row

BACKLOG_ROWS_PER_S = 500
_BURST_ROWS = 25


class Feed:
    """Reads the outbox once through for one connection; what was there at its start is the backlog."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._live_after = self._boundary = outbox.last_id
        self._backlog_after = 0
        self._has_backlog = outbox.count() > 0
        self._allowance = 0
        self._refill_at_s = 0.0

    def take(self, room: int, now_s: float) -> list[Row]:
        """At most `room` messages that were not taken yet.

        Raises:
            OutboxError: the file cannot be read.
        """
        rows = self._take_live(room)
        if self._has_backlog and len(rows) < room:
            rows += self._take_backlog(room - len(rows), now_s)
        return rows

    def until_next_s(self, now_s: float, at_most_s: float) -> float:
        """Seconds until the backlog may go on."""
        if not self._has_backlog or self._allowance:
            return at_most_s
        return min(max(self._refill_at_s - now_s, 0.0), at_most_s)

    def _take_live(self, room: int) -> list[Row]:
        newest = self._outbox.last_id
        if newest == self._live_after or room <= 0:
            return []
        rows = self._outbox.pending(room, self._live_after, newest)
        self._live_after = rows[-1].id if len(rows) == room else newest
        return rows

    def _take_backlog(self, room: int, now_s: float) -> list[Row]:
        if now_s >= self._refill_at_s:
            self._allowance = _BURST_ROWS
            self._refill_at_s = now_s + _BURST_ROWS / BACKLOG_ROWS_PER_S
        limit = min(room, self._allowance)
        if not limit:
            return []
        rows = self._outbox.pending(limit, self._backlog_after, self._boundary)
        self._allowance -= len(rows)
        if len(rows) < limit:
            self._has_backlog = False
        else:
            self._backlog_after = rows[-1].id
        return rows
