from __future__ import annotations

import threading
import time

from edge.messages import Verdict
from edge.observer import Inspection, SideChannel, Subscription


def numbered(seq: int) -> Inspection:
    return Inspection(Verdict.model_construct(seq=seq), 0.0, None, None, None)


def drain(subscription: Subscription) -> list[int]:
    kept = []
    while (inspection := subscription.get(0)) is not None:
        kept.append(inspection.verdict.seq)
    return kept


def test_every_observer_gets_every_inspection_in_order() -> None:
    channel = SideChannel()
    first, second = channel.subscribe(10), channel.subscribe(10)
    for seq in range(5):
        channel.publish(numbered(seq))
    assert drain(first) == drain(second) == [0, 1, 2, 3, 4]
    assert first.dropped == 0


def test_a_slow_reader_loses_the_oldest_and_the_loss_is_counted() -> None:
    channel = SideChannel()
    subscription = channel.subscribe(3)
    for seq in range(10):
        channel.publish(numbered(seq))
    assert subscription.dropped == 7
    assert drain(subscription) == [7, 8, 9]


def test_publishing_without_observers_is_allowed() -> None:
    channel = SideChannel()
    assert not channel.watched
    channel.publish(numbered(0))
    channel.subscribe(1)
    assert channel.watched


def test_get_waits_its_whole_timeout_also_after_earlier_inspections() -> None:
    subscription = Subscription(4)
    for seq in range(3):
        subscription.put(numbered(seq))
    assert drain(subscription) == [0, 1, 2]
    begin_s = time.monotonic()
    assert subscription.get(0.15) is None
    assert time.monotonic() - begin_s >= 0.15


def test_a_waiting_reader_gets_everything_that_a_writer_puts() -> None:
    """One None means 200 ms of silence; it must never stand for an inspection that is there."""
    subscription = Subscription(5000)
    writer = threading.Thread(target=lambda: [subscription.put(numbered(seq)) for seq in range(5000)])
    seen: list[int] = []
    writer.start()
    while (inspection := subscription.get(0.2)) is not None:
        seen.append(inspection.verdict.seq)
    writer.join()
    assert seen == list(range(5000))
    assert subscription.dropped == 0
