"""The side channel: whoever wants to look at inspections gets the newest ones and can never slow the line."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.frame import Image
from edge.messages import Verdict


@dataclass(frozen=True, slots=True)
class Inspection:
    """One verdict with what a person wants to see beside it.

    Attributes:
        verdict: the message as it was stored.
        image_rgb: uint8 (256, 256, 3), the network's input; None when there was no usable frame.
        anomaly_map: float32 (256, 256); None when there was no inference.
        mask: uint8 (256, 256), 1 = defect; None when there was no inference.
    """

    verdict: Verdict
    image_rgb: Image | None
    anomaly_map: npt.NDArray[np.float32] | None
    mask: Image | None


class Subscription:
    """A bounded queue of inspections; the oldest are dropped when its reader is slow."""

    def __init__(self, depth: int) -> None:
        self._queue: deque[Inspection] = deque(maxlen=depth)
        self._ready = threading.Event()
        self.dropped = 0

    def put(self, inspection: Inspection) -> None:
        """Never blocks."""
        if len(self._queue) == self._queue.maxlen:
            self.dropped += 1
        self._queue.append(inspection)
        self._ready.set()

    def get(self, timeout_s: float) -> Inspection | None:
        """The oldest inspection kept, or None after `timeout_s`."""
        if not self._queue and not self._ready.wait(timeout_s):
            return None
        self._ready.clear()
        try:
            return self._queue.popleft()
        except IndexError:
            return None


class SideChannel:
    """Hands every inspection to all subscriptions."""

    def __init__(self) -> None:
        self._subscriptions: tuple[Subscription, ...] = ()

    def subscribe(self, depth: int) -> Subscription:
        """A new bounded queue of at most `depth` inspections."""
        subscription = Subscription(depth)
        self._subscriptions = (*self._subscriptions, subscription)
        return subscription

    def publish(self, inspection: Inspection) -> None:
        """Never blocks."""
        for subscription in self._subscriptions:
            subscription.put(inspection)

    @property
    def watched(self) -> bool:
        """Whether anybody subscribed."""
        return bool(self._subscriptions)
