"""The side channel: whoever wants to look at inspections gets the newest ones and can never slow the line."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge.frame import Image
from edge.messages import Verdict


@dataclass(frozen=True, slots=True)
class Inspection:
    """One verdict with what a person wants to see beside it.

    The arrays belong to the inspection: they are never written again, so any thread may keep and read them.

    Attributes:
        verdict: the message as it was stored.
        durable_ms: from the trigger until the verdict was on disk.
        image_rgb: uint8 (256, 256, 3), the network's input; None when there was no usable frame.
        anomaly_map: float32 (256, 256); None when there was no inference.
        mask: uint8 (256, 256), 1 = defect; None when there was no inference.
    """

    verdict: Verdict
    durable_ms: float
    image_rgb: Image | None
    anomaly_map: npt.NDArray[np.float32] | None
    mask: Image | None


class Observer(Protocol):
    """Takes every inspection, on the line's own thread."""

    def put(self, inspection: Inspection) -> None:
        """Take it in microseconds: no waiting, no encoding, no I/O, no exception."""


class Subscription:
    """A bounded queue of inspections; the oldest are dropped when its reader is slow."""

    def __init__(self, depth: int) -> None:
        self._queue: deque[Inspection] = deque(maxlen=depth)
        self._arrived = threading.Condition(threading.Lock())
        self.dropped = 0

    def put(self, inspection: Inspection) -> None:
        """Never waits for the reader: the lock is only ever held for one queue operation."""
        with self._arrived:
            if len(self._queue) == self._queue.maxlen:
                self.dropped += 1
            self._queue.append(inspection)
            self._arrived.notify()

    def get(self, timeout_s: float) -> Inspection | None:
        """The oldest inspection kept, or None after `timeout_s`."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: self._queue, timeout_s):
                return None
            return self._queue.popleft()


class SideChannel:
    """Hands every inspection to all observers."""

    def __init__(self) -> None:
        self._observers: tuple[Observer, ...] = ()

    def attach(self, observer: Observer) -> None:
        """From now on `observer.put` gets every inspection. To be called before the line runs."""
        self._observers = (*self._observers, observer)

    def subscribe(self, depth: int) -> Subscription:
        """A new bounded queue of at most `depth` inspections."""
        subscription = Subscription(depth)
        self.attach(subscription)
        return subscription

    def publish(self, inspection: Inspection) -> None:
        """Never waits for an observer."""
        for observer in self._observers:
            observer.put(inspection)

    @property
    def watched(self) -> bool:
        """Whether anybody looks."""
        return bool(self._observers)
