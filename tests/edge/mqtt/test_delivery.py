"""What reaches consumers through a real Mosquitto: every message once stored, in order, whatever the broker does."""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from edge.delivery import verdict_messages
from edge.events import OutboxSalvaged
from edge.manifest import Sha256
from edge.messages import fit_verdict
from edge.notices import Meta, Metrics, StateName, plc_record
from edge.outbox import Gap, Message, Outbox
from edge.wire import Topics

Protocol = Literal["3.1.1", "5"]
ZEROS: Sha256 = "0" * 64


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_every_kind_of_message_arrives_valid(
    rig: Any, mosquitto: Any, make_verdict: Any, meta: Meta, boot_id: str, protocol: Protocol
) -> None:
    broker = mosquitto().start()
    subscriber = rig.subscriber(broker.port, protocol)
    publisher = rig.publisher(broker.port, protocol=protocol)
    publisher.set_meta(meta)
    publisher.set_state(StateName.READY, "golden vectors reproduced")
    publisher.set_alarm("camera", "no frame for 5 s")
    publisher.send_metrics(Metrics(boot_id=boot_id, ts=meta.ts, values={"verdicts": 3.0, "infer_p50_ms": 41.5}))
    fitted = replace(fit_verdict(make_verdict(1)), mask_payload=b"\x89PNG\x00")
    rig.outbox.append_many(verdict_messages(rig.topics, fitted, with_plc=True))
    result_id = fitted.verdict.result_id
    wanted = (
        "status",
        "meta",
        "state",
        "alarm/camera",
        "metrics",
        "verdict",
        "verdict/last",
        "plc",
        f"mask/{result_id}",
    )
    rig.eventually(lambda: all(subscriber.on(name) for name in wanted), "all kinds")

    assert subscriber.on("verdict")[0].payload == fitted.payload == subscriber.on("verdict/last")[0].payload
    assert subscriber.on(f"mask/{result_id}")[0].payload == b"\x89PNG\x00"
    assert subscriber.json("plc")[0]["v"] == "NG"
    assert subscriber.json("status")[0]["status"] == "online"
    assert subscriber.json("state")[-1]["state"] == "Ready"
    rig.eventually(lambda: publisher.stats().pending == 0, "acknowledged")
    stats = publisher.stats()
    assert (stats.connected, stats.published, stats.acknowledged) == (True, 3, 3)
    if protocol == "5":
        properties = subscriber.on("verdict")[0].properties
        assert properties is not None
        assert properties.ContentType == "application/json"
        assert properties.UserProperty == [("schema", "urn:tfanet-edge:verdict:1")]
        assert properties.MessageExpiryInterval > 0


def test_late_joiners_find_status_meta_state_and_the_last_verdict(rig: Any, mosquitto: Any, meta: Meta) -> None:
    broker = mosquitto().start()
    publisher = rig.publisher(broker.port)
    publisher.set_meta(meta)
    publisher.set_state(StateName.INITIALIZED, "starting")
    publisher.set_state(StateName.READY, "started")
    publisher.set_alarm("camera", "lost")
    publisher.set_alarm("camera", None)
    rig.judge(range(3))
    rig.stop(publisher)

    late = rig.subscriber(broker.port)
    rig.eventually(lambda: len(late.messages) >= 4, "retained messages")
    assert sorted(message.topic.removeprefix(rig.topics.root + "/") for message in late.messages) == [
        "meta",
        "state",
        "status",
        "verdict/last",
    ]
    assert late.json("status")[0]["status"] == "stopped"
    assert late.json("state")[0]["reason"] == "started"
    assert late.json("verdict/last")[0]["seq"] == 2
    assert publisher.stats().pending == 0


def test_nothing_is_lost_and_order_kept_when_the_broker_is_killed(rig: Any, mosquitto: Any, tmp_path: Path) -> None:
    """With QoS 0 Mosquitto passes a message on before it acknowledges it, so that its own death loses none."""
    broker = mosquitto("persistence true", f"persistence_location {tmp_path}/", "queue_qos0_messages true").start()
    subscriber = rig.subscriber(broker.port, qos=0)
    broker.terminate()  # writes the subscription down, so that the broker knows it after it was killed
    broker.start()
    publisher = rig.publisher(broker.port)
    rig.eventually(lambda: publisher.stats().connected, "connected")
    line = threading.Thread(target=rig.judge, args=(range(160),))
    line.start()
    rig.eventually(lambda: len(subscriber.seqs()) > 20, "the first ones")
    broker.kill()
    line.join()
    rig.eventually(lambda: not publisher.stats().connected, "the loss is noticed")
    assert publisher.stats().pending > 0
    broker.start()
    rig.eventually(lambda: publisher.stats().connected, "connected again")
    rig.judge(range(160, 200))
    rig.eventually(lambda: len(subscriber.seqs()) == 200, "all")

    assert [seq for seq in subscriber.seqs() if seq < 160] == list(range(160))
    assert [seq for seq in subscriber.seqs() if seq >= 160] == list(range(160, 200))
    rig.eventually(lambda: publisher.stats().pending == 0, "acknowledged")
    assert publisher.stats().reconnects >= 1


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize(
    ("limit", "dropped"),
    [("max_packet_size 20000", {"3.1.1": 1, "5": 1}), ("message_size_limit 20000", {"3.1.1": 0, "5": 1})],
)
def test_what_the_broker_cannot_take_never_blocks_what_is_behind(
    rig: Any, mosquitto: Any, boot_id: str, protocol: Protocol, limit: str, dropped: dict[str, int]
) -> None:
    """With `message_size_limit` and 3.1.1, Mosquitto acknowledges what it throws away: nobody can know."""
    broker = mosquitto(limit).start()
    subscriber = rig.subscriber(broker.port)
    publisher = rig.publisher(broker.port, protocol=protocol)
    rig.eventually(lambda: publisher.stats().connected, "connected")
    rig.judge(range(3))
    rig.outbox.append_many([Message(rig.topics.mask("x"), bytes(50_000), 1, False, "mask", boot_id, 2)])
    rig.judge(range(3, 6))
    rig.eventually(lambda: publisher.stats().pending == 0, "the queue is empty")
    rig.eventually(lambda: len(subscriber.seqs()) == 6, "all verdicts")
    assert subscriber.on("mask/x") == []
    assert publisher.stats().dropped_oversize == dropped[protocol]
    assert rig.outbox.gaps() == [Gap(boot_id, "mask", 2, 2)] * dropped[protocol]
    rig.judge(range(6, 8))
    rig.eventually(lambda: len(subscriber.seqs()) == 8, "and it goes on")


def test_a_verdict_that_is_refused_stays_and_says_so(rig: Any, mosquitto: Any, tmp_path: Path) -> None:
    """Only MQTT 5 lets a broker tell."""
    rules = tmp_path / "rules"
    rules.write_text(f"topic write {rig.topics.status}\n")
    publisher = rig.publisher(mosquitto(f"acl_file {rules}").start().port, protocol="5", publish_last=False)
    rig.judge(range(3))
    complaint = f"refuses messages on '{rig.topics.verdict}'"
    rig.eventually(lambda: complaint in str(publisher.last_error), "refused")
    assert (publisher.stats().acknowledged, publisher.stats().pending) == (0, 3)


def test_refused_messages_do_not_block_those_behind_them(
    rig: Any, mosquitto: Any, tmp_path: Path, boot_id: str, make_verdict: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than may be under way at once; when the rules are mended they are delivered after all."""
    monkeypatch.setattr("edge.mqtt.session._ASK_AGAIN_S", 0.3)
    rules = tmp_path / "rules"
    rules.write_text(f"topic readwrite {rig.topics.verdict}\ntopic readwrite {rig.topics.root}/status\n")
    broker = mosquitto(f"acl_file {rules}").start()
    subscriber = rig.subscriber(broker.port)
    rig.outbox.append_many(
        [
            Message(rig.topics.plc, plc_record(make_verdict(seq)).encode(), 1, False, "plc", boot_id, seq)
            for seq in range(15)
        ]
        + [Message(rig.topics.mask(str(seq)), bytes(50), 1, False, "mask", boot_id, seq) for seq in range(15)]
    )
    rig.judge(range(5))
    publisher = rig.publisher(broker.port, protocol="5", max_inflight=10, publish_last=False)
    rig.eventually(lambda: subscriber.seqs() == list(range(5)), "the verdicts behind")
    rig.eventually(lambda: "refuses messages on" in str(publisher.last_error), "the complaint")
    rig.eventually(lambda: publisher.stats().pending == 30, "the rest stays")
    rig.judge(range(5, 8))
    rig.eventually(lambda: subscriber.seqs() == list(range(8)), "and it goes on")
    rules.write_text(f"topic readwrite {rig.topics.root}/#\n")
    broker.reload()
    rig.eventually(lambda: publisher.stats().pending == 0, "everything after the rules are mended")
    assert publisher.stats().reconnects == 0
    assert publisher.last_error is None
    assert rig.outbox.gaps() == []


def test_what_the_configuration_forbids_is_never_handed_over(rig: Any, mosquitto: Any, boot_id: str) -> None:
    broker = mosquitto().start()
    subscriber = rig.subscriber(broker.port)
    publisher = rig.publisher(broker.port, max_message_bytes=5000)
    mask = rig.topics.mask("x")
    rig.outbox.append_many([Message(mask, bytes(size), 1, False, "mask", boot_id, size) for size in (5001, 5000)])
    rig.eventually(lambda: subscriber.on("mask/x"), "the one that fits")
    assert len(subscriber.on("mask/x")[0].payload) == 5000
    rig.eventually(lambda: publisher.stats().pending == 0, "acknowledged")
    assert (publisher.stats().dropped_oversize, publisher.stats().reconnects) == (1, 0)


def test_what_an_earlier_run_left_is_delivered(rig: Any, mosquitto: Any) -> None:
    rig.judge(range(30))
    rig.outbox.close()
    rig.outbox = Outbox(rig.path, 1000)
    broker = mosquitto().start()
    subscriber = rig.subscriber(broker.port)
    rig.publisher(broker.port)
    rig.eventually(lambda: subscriber.seqs() == list(range(30)), "the earlier run's verdicts")


def test_an_overflow_is_an_alarm_until_the_backlog_is_delivered(rig: Any, mosquitto: Any) -> None:
    rig.outbox.close()
    rig.outbox = Outbox(rig.path, 100)
    broker = mosquitto()
    rig.publisher(broker.port)
    began_s = time.monotonic()
    rig.judge(range(130))
    broker.start()
    subscriber = rig.subscriber(broker.port)
    alarm = "alarm/outbox_overflow"
    reason = b"30 messages dropped undelivered; newest: verdict 0 to 29"
    rig.eventually(lambda: any(reason in said.payload for said in subscriber.on(alarm)), "raised")
    rig.eventually(lambda: not subscriber.on(alarm)[-1].payload, "and cleared")
    raised = sum(bool(said.payload) for said in subscriber.on(alarm))
    assert raised <= 1 + (time.monotonic() - began_s)


def test_a_damaged_outbox_is_an_alarm_and_the_rest_is_delivered(rig: Any, mosquitto: Any, boot_id: str) -> None:
    rig.judge(range(40))
    rig.outbox.close()
    content = bytearray(rig.path.read_bytes())
    content[content.index(b'"seq":7,')] ^= 1
    rig.path.write_bytes(content)
    rig.outbox = Outbox(rig.path, 1000)
    broker = mosquitto().start()
    subscriber = rig.subscriber(broker.port)
    publisher = rig.publisher(broker.port)
    rig.eventually(lambda: publisher.stats().pending == 0, "delivered")
    rig.eventually(lambda: subscriber.seqs() == [seq for seq in range(40) if seq != 7], "all others")
    assert rig.outbox.gaps() == [Gap(boot_id, "verdict", 7, 7)]
    rig.eventually(lambda: subscriber.on("alarm/outbox_damaged")[-1].payload, "the alarm")
    reason = json.loads(subscriber.on("alarm/outbox_damaged")[-1].payload)["reason"]
    assert (
        "row 8 fails its checksum; 39 messages saved, 1 verdicts missing; damaged file: outbox.sqlite.damaged-"
        in reason
    )
    assert rig.facts == [OutboxSalvaged(problem="row 8 fails its checksum", saved=39, missing=1)]


def test_the_subscriber_on_the_page_for_consumers_works(rig: Any, mosquitto: Any, topics: Topics) -> None:
    page = (Path(__file__).parents[3] / "docs" / "mqtt.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    broker = mosquitto().start()
    program = program.replace("1883", str(broker.port))
    listener = subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True)
    assert listener.stdout is not None
    try:
        rig.publisher(broker.port)
        lines: list[str] = []
        seq = 0
        deadline_s = time.monotonic() + 10
        while not lines:  # until it has subscribed
            assert time.monotonic() < deadline_s
            rig.judge(range(seq, seq + 1))
            seq += 1
            if select.select([listener.stdout], [], [], 0.1)[0]:
                lines.append(listener.stdout.readline())
        rig.judge(range(seq + 2, seq + 3))
        while not lines[-1].startswith("missing"):
            lines.append(listener.stdout.readline())
        assert f"missing so far: {seq} to {seq + 1} of boot" in lines[-1]
        assert listener.stdout.readline() == f"{seq + 2} NG \n"
    finally:
        listener.kill()
        listener.wait()
        listener.stdout.close()


def test_what_waits_is_delivered_even_when_stop_comes_at_once(rig: Any, mosquitto: Any) -> None:
    broker = mosquitto().start()
    rig.judge(range(10))
    publisher = rig.publisher(broker.port)
    rig.stop(publisher)
    assert (publisher.stats().acknowledged, publisher.stats().pending) == (10, 0)
