"""What is retained at the broker: the newest payload per topic, and which of them the broker does not have yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_ANSWERS_KEPT = 256


@dataclass(frozen=True, slots=True)
class Notice:
    """A payload for a topic; `kind` names its schema."""

    topic: str
    kind: str
    payload: bytes
    qos: int
    retain: bool


class NoticeBoard:
    """Any thread puts notices up, the publisher takes them down; the newest per topic wins."""

    def __init__(self, ring: Callable[[], None]) -> None:
        """`ring` is called after each change and must return at once."""
        self._ring = ring
        self._lock = threading.Lock()
        self._retained: dict[str, Notice] = {}
        self._unsent: dict[str, Notice] = {}
        self._answers: deque[Notice] = deque(maxlen=_ANSWERS_KEPT)

    def put(self, topic: str, kind: str, payload: bytes, *, retain: bool = True) -> None:
        """Put a notice up. A retained one is sent with QoS 1 and again on each connection, any other once, QoS 0."""
        self.add(Notice(topic, kind, payload, int(retain), retain))
        self._ring()

    def add(self, notice: Notice) -> None:
        """As `put`, for the publisher's own thread, which need not be rung for."""
        with self._lock:
            if notice.retain:
                self._retained[notice.topic] = notice
            self._unsent[notice.topic] = notice

    def answer(self, notice: Notice) -> None:
        """Each of these is sent, once and in order, before anything else; the oldest go when too many wait."""
        with self._lock:
            self._answers.append(notice)
        self._ring()

    def repeat(self) -> None:
        """Everything retained counts as unsent."""
        with self._lock:
            self._unsent = {**self._retained, **self._unsent}

    def take(self) -> Notice | None:
        """The next answer, or else the unsent notice that was put up first; it counts as sent from now on."""
        with self._lock:
            if self._answers:
                return self._answers.popleft()
            for topic in self._unsent:
                return self._unsent.pop(topic)
        return None
