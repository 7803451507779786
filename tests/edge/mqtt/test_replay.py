"""Delivered verdicts once more, through a real Mosquitto, and what no request can do to the station."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import publish

from edge.mqtt.packets import Incoming
from edge.outbox import Message, Outbox
from edge.replay import SPAN_MAX, ReplayDesk

BOOT = "01JD9V3N0000000000000000B0"
OTHER_BOOT = "01JD9V3N0000000000000000B9"


def ask(rig: Any, broker: Any, payload: object, **options: Any) -> None:
    text = payload if isinstance(payload, (str, bytes)) else json.dumps(payload)
    publish.single(rig.topics.replay_request, text, qos=1, port=broker.port, **options)


def request(from_seq: int, to_seq: int, boot_id: str = BOOT) -> dict[str, object]:
    return {"boot_id": boot_id, "from_seq": from_seq, "to_seq": to_seq}


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_delivered_verdicts_come_again_marked_as_historical(rig: Any, mosquitto: Any, protocol: str) -> None:
    broker = mosquitto().start()
    subscriber = rig.subscriber(broker.port)
    rig.judge(range(30))
    publisher = rig.publisher(broker.port, protocol=protocol, max_inflight=4)
    rig.eventually(lambda: publisher.stats().pending == 0, "delivered")
    rig.eventually(lambda: len(subscriber.json("verdict")) == 30, "all there")
    ask(rig, broker, request(10, 19))
    rig.eventually(lambda: len(subscriber.json("verdict")) == 40, "again")
    first, again = subscriber.json("verdict")[10:20], subscriber.json("verdict")[30:]
    assert [verdict["historical"] for verdict in again] == [True] * 10
    assert [{**verdict, "historical": True} for verdict in first] == again
    assert not any(message.retain for message in subscriber.on("verdict"))
    rig.judge(range(30, 32))
    rig.eventually(lambda: subscriber.seqs() == list(range(32)), "and it goes on")


def test_what_cannot_be_a_request_changes_nothing(rig: Any, mosquitto: Any, caplog: pytest.LogCaptureFixture) -> None:
    broker = mosquitto().start()
    ask(rig, broker, request(0, 4), retain=True)
    subscriber = rig.subscriber(broker.port)
    publisher = rig.publisher(broker.port)
    rig.judge(range(5))
    rig.eventually(lambda: publisher.stats().pending == 0, "delivered")
    for nonsense in (
        "",
        "{",
        "[]",
        b"\xff\xfe",
        "x" * 5000,
        request(0, SPAN_MAX),
        request(4, 0),
        {**request(0, 1), "x": 1},
    ):
        ask(rig, broker, nonsense)
    ask(rig, broker, request(0, 4, OTHER_BOOT))
    ask(rig, broker, request(3, 3))
    rig.eventually(lambda: len(subscriber.json("verdict")) == 6, "the one good request")
    assert [(verdict["seq"], verdict["historical"]) for verdict in subscriber.json("verdict")[5:]] == [(3, True)]
    assert publisher.stats().reconnects == 0
    # One line for all of them, so that nobody can fill the disk through the log.
    assert len([record for record in caplog.records if "request for a replay refused" in record.message]) == 1


def test_replays_wait_for_the_backlog_and_keep_its_pace(rig: Any, mosquitto: Any, tmp_path: Path) -> None:
    broker = mosquitto().start()
    subscriber = rig.subscriber(broker.port)
    rig.judge(range(60))
    publisher = rig.publisher(broker.port, backlog_per_s=200.0)
    rig.eventually(lambda: publisher.stats().connected, "connected")
    ask(rig, broker, request(0, 59))
    started_s = time.monotonic()
    rig.eventually(lambda: len(subscriber.json("verdict")) == 120, "backlog and replay")
    assert time.monotonic() - started_s > 100 / 200
    assert [verdict["historical"] for verdict in subscriber.json("verdict")] == [False] * 60 + [True] * 60


@pytest.fixture
def remembered(tmp_path: Path) -> Any:
    outbox = Outbox(tmp_path / "outbox.sqlite", 1000)
    outbox.append_many(
        [Message("v", b'{"seq":%d,"historical":false}' % seq, 1, False, "verdict", BOOT, seq) for seq in range(100)]
    )
    outbox.remove(row.id for row in outbox.pending(1000))
    yield outbox
    outbox.close()


def incoming(payload: object, *, is_retained: bool = False) -> Incoming:
    return Incoming("replay/request", json.dumps(payload).encode(), is_retained)


def test_long_requests_take_turns_and_only_so_many_wait(remembered: Outbox) -> None:
    desk = ReplayDesk(remembered)
    desk.receive(incoming(request(0, 49)))
    desk.receive(incoming(request(0, 49)))
    desk.receive(incoming(request(90, 99)))
    answers = [json.loads(answer)["seq"] for _ in range(20) for answer in desk.take(5)]
    assert sorted(answers) == [*range(50), *range(90, 100)]
    assert answers[:10] == [0, 1, 2, 3, 4, 90, 91, 92, 93, 94]
    assert not desk.is_busy
    for seq in range(40):
        desk.receive(incoming(request(seq, seq)))
    assert desk.refused == 24
    assert len(desk.take(1000)) == 16


@given(payload=st.binary(max_size=300) | st.none())
def test_no_bytes_at_all_upset_it(payload: bytes | None) -> None:
    desk = ReplayDesk(None)  # type: ignore[arg-type]
    desk.receive(Incoming("replay/request", payload, False))
    assert (desk.refused, desk.is_busy) == (1, False)
