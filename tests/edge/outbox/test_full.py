"""No room on the disk: nothing half-written, nothing published that is not durable; with room again, on it goes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Consumer, until

from edge.errors import OutboxError
from edge.outbox import Message, Outbox
from edge.startup import open_station


def message(seq: int) -> Message:
    return Message("root/verdict", b'{"seq":%d}' % seq + bytes(700), 1, False, "verdict", "boot", seq)


def wal_bytes(path: Path) -> int:
    return path.with_name(f"{path.name}-wal").stat().st_size


@pytest.mark.parametrize("room_bytes", [0, 100, 4096, 30_000])
def test_what_does_not_fit_is_refused_and_the_rest_stays(
    tmp_path: Path, limited_file_size: Callable[[], Any], room_bytes: int
) -> None:
    path = tmp_path / "outbox.sqlite"
    outbox = Outbox(path, 1000)
    outbox.append_many([message(seq) for seq in range(5)])
    stored = list(range(5))
    with limited_file_size() as limit:
        limit(wal_bytes(path) + room_bytes)
        for seq in range(5, 40):
            try:
                outbox.append_many([message(seq), message(seq)])
                stored += [seq, seq]
            except OutboxError as error:
                assert "has room" in str(error)  # noqa: PT017
        assert len(stored) < 60
        assert [row.message.seq for row in outbox.pending(1000)] == stored
    outbox.append_many([message(100)])
    assert [row.message.seq for row in outbox.pending(1000)] == [*stored, 100]
    assert (outbox.salvage, outbox.count()) == (None, len(stored) + 1)
    outbox.close()
    outbox = Outbox(path, 1000)
    assert [row.message.seq for row in outbox.pending(1000)] == [*stored, 100]
    outbox.close()


def test_an_outbox_opened_without_room_keeps_what_it_has(tmp_path: Path, limited_file_size: Callable[[], Any]) -> None:
    path = tmp_path / "outbox.sqlite"
    outbox = Outbox(path, 1000)
    outbox.append_many([message(seq) for seq in range(50)])
    outbox.close()
    with limited_file_size() as limit:
        limit(1000)
        with pytest.raises(OutboxError):
            Outbox(path, 1000)
    outbox = Outbox(path, 1000)
    assert [row.message.seq for row in outbox.pending(1000)] == list(range(50))
    assert outbox.salvage is None
    outbox.close()


class FillsTheDisk:
    """After ten verdicts there is no more room."""

    def __init__(self, path: Path, limit: Callable[[int], None]) -> None:
        self._path = path
        self._limit = limit
        self.seen = 0

    def put(self, _: object) -> None:
        self.seen += 1
        if self.seen == 10:
            self._limit(wal_bytes(self._path) + 100)


def test_a_station_without_room_says_so_ends_and_publishes_nothing_that_is_not_durable(
    make_line: Any, validators: Any, limited_file_size: Callable[[], Any]
) -> None:
    line = make_line()
    consumer = Consumer(line.broker.port)
    with limited_file_size() as limit, open_station(line.config, is_simulated=True) as station:
        disk = FillsTheDisk(line.config.outbox.path, limit)
        station.side_channel.attach(disk)
        with pytest.raises(OutboxError, match="cannot be written"):
            station.run(threading.Event())
        until(lambda: consumer.states[-1] == "Error", "state Error")
    durable = station.verdicts.total()
    assert durable == disk.seen
    state = consumer.of(consumer.topics.state)[-1]
    validators["state"].validate(state)
    assert "outbox" in state["reason"]
    until(lambda: len(consumer.by_result_id) == durable, "the durable verdicts")
    with open_station(line.config, is_simulated=True) as station:
        station.run(threading.Event(), 4)
    until(
        lambda: [verdict["boot_id"] for verdict in consumer.by_result_id.values()].count(station.boot_id) == 4,
        "the next start's",
    )
    assert len({verdict["boot_id"] for verdict in consumer.by_result_id.values()}) == 2
    consumer.close()
