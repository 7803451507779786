"""The audit trail's inbox: any thread puts facts in, the thread that appends to the outbox takes messages out.

A fact goes to disk in the transaction of the next verdict, so that it costs the line no sync of its own; only when no
verdict comes for a second, it goes alone. Of each kind a few go singly; a flood is collapsed into one message a minute.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

from edge.events import Event, Fact
from edge.outbox import Message, Outbox
from edge.wire import utc_text

BURST = 10
REFILL_S = 60.0
PATIENCE_S = 1.0
_WITH_A_VERDICT = 2


@dataclass(slots=True)
class _Entry:
    fact: Fact
    ts: str
    at_s: float
    count: int = 1


@dataclass(slots=True)
class _Kind:
    """How many more of a kind may go singly, and what those beyond have become."""

    allowance: float = BURST
    at_s: float = 0.0
    collapsed: _Entry | None = None


class AuditTrail:
    """Events of one boot. `take`, `flush` and `flush_overdue` belong to the thread that appends to the outbox."""

    def __init__(self, outbox: Outbox, boot_id: str, topic: str, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Set up with nothing to tell.

        Args:
            outbox: where events wait for the broker.
            boot_id: of the station.
            topic: where they are published.
            clock_s: monotonic.
        """
        self._outbox = outbox
        self._boot_id = boot_id
        self._topic = topic
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._waiting: deque[_Entry] = deque()
        self._kinds: defaultdict[str, _Kind] = defaultdict(_Kind)
        self._seq = 0

    def record(self, fact: Fact) -> None:
        """Take a fact, from any thread; it is durable soon, and lost if the process ends before."""
        entry = _Entry(fact, utc_text(time.time_ns()), self._clock_s())
        with self._lock:
            kind = self._kinds[fact.kind]
            if kind.collapsed is not None:
                entry.count += kind.collapsed.count
            kind.collapsed = entry
            self._release(entry.at_s)

    def take(self) -> list[Message]:
        """A few events, for the transaction of a verdict."""
        return self._take(self._clock_s(), _WITH_A_VERDICT)

    def flush_overdue(self) -> None:
        """Make durable by themselves the events that no verdict took along.

        Raises:
            OutboxError: the outbox cannot be written; so does `flush`.
        """
        now_s = self._clock_s()
        with self._lock:
            self._release(now_s)
        if self._waiting and now_s - self._waiting[0].at_s >= PATIENCE_S:
            self._append(self._take(now_s, len(self._waiting)))

    def flush(self) -> None:
        """Make everything durable, also what is being collapsed."""
        with self._lock:
            for kind in self._kinds.values():
                kind.allowance = BURST
        self._append(self._take(self._clock_s(), len(self._waiting) + len(self._kinds)))

    def _release(self, now_s: float) -> None:
        """What may go singly by now begins to wait."""
        for kind in self._kinds.values():
            kind.allowance = min(BURST, kind.allowance + (now_s - kind.at_s) / REFILL_S)
            kind.at_s = now_s
            if kind.collapsed is not None and kind.allowance >= 1:
                kind.allowance -= 1
                self._waiting.append(kind.collapsed)
                kind.collapsed = None

    def _take(self, now_s: float, limit: int) -> list[Message]:
        with self._lock:
            self._release(now_s)
            entries = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        return [self._message(entry) for entry in entries]

    def _message(self, entry: _Entry) -> Message:
        event = Event(boot_id=self._boot_id, seq=self._seq, ts=entry.ts, count=entry.count, event=entry.fact)
        self._seq += 1
        return Message(self._topic, event.encode(), 1, False, "event", self._boot_id, event.seq)

    def _append(self, messages: list[Message]) -> None:
        if messages:
            self._outbox.append_many(messages)
