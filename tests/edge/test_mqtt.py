"""Delivery against a real Mosquitto."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from jsonschema import Draft202012Validator
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.config import MqttConfig
from edge.delivery import verdict_messages
from edge.errors import ConfigError
from edge.manifest import Sha256
from edge.messages import Model, Recipe, Station, fit_verdict
from edge.mqtt.publisher import Publisher
from edge.notices import CameraIdentity, Meta, MetaThreshold, Metrics, StateName
from edge.outbox import Gap, Message, Outbox
from edge.wire import Topics

Protocol = Literal["3.1.1", "5"]
ZEROS: Sha256 = "0" * 64


def eventually(condition: Callable[[], object], what: str, within_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {within_s} s: {what}"
        time.sleep(0.005)


class Subscriber:
    """Keeps every message below the station's topics, in the order of arrival, and checks each against its schema."""

    def __init__(
        self, topics: Topics, validators: dict[str, Draft202012Validator], protocol: Protocol, qos: int
    ) -> None:
        self.messages: list[MQTTMessage] = []
        self.invalid: list[str] = []
        self._root = topics.root
        self._validators = validators
        v5 = protocol == "5"
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            "subscriber",
            clean_session=None if v5 else False,
            protocol=MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311,
        )
        self._client.reconnect_delay_set(0.02, 0.05)  # type: ignore[arg-type]
        self._subscribed = False
        self._client.on_connect = lambda client, *_: client.subscribe(f"{self._root}/#", qos=qos)
        self._client.on_subscribe = lambda *_: setattr(self, "_subscribed", True)
        self._client.on_message = lambda _client, _data, message: self._keep(message)

    def connect(self, port: int) -> Subscriber:
        self._client.connect("127.0.0.1", port, 30)
        self._client.loop_start()
        eventually(lambda: self._subscribed, "subscribed")
        return self

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def on(self, name: str) -> list[MQTTMessage]:
        return [message for message in list(self.messages) if message.topic == f"{self._root}/{name}"]

    def json(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(message.payload) for message in self.on(name)]

    def seqs(self) -> list[int]:
        """Sequence numbers of the verdicts, repetitions left out."""
        return list(dict.fromkeys(message["seq"] for message in self.json("verdict")))

    def _keep(self, message: MQTTMessage) -> None:
        name = message.topic.removeprefix(f"{self._root}/").split("/")[0]
        if name != "mask" and message.payload:
            errors = list(self._validators[name].iter_errors(json.loads(message.payload)))
            self.invalid += [f"{message.topic}: {error.message}" for error in errors]
        self.messages.append(message)


class Rig:
    """A publisher with its outbox, and subscribers."""

    def __init__(self, directory: Path, topics: Topics, boot_id: str, make_verdict: Any, validators: Any) -> None:
        self.topics = topics
        self._boot_id = boot_id
        self._make_verdict = make_verdict
        self._validators = validators
        self.path = directory / "outbox.sqlite"
        self.outbox = Outbox(self.path, 1000)
        self._publishers: list[Publisher] = []
        self._subscribers: list[Subscriber] = []

    def publisher(self, port: int, **options: Any) -> Publisher:
        config = MqttConfig(**{"port": port, "reconnect_max_s": 0.5, **options})
        self._publishers.append(Publisher(config, self.topics, self.outbox, boot_id=self._boot_id, version="0.1.0"))
        self._publishers[-1].start()
        return self._publishers[-1]

    def subscriber(self, port: int, protocol: Protocol = "3.1.1", qos: int = 1) -> Subscriber:
        self._subscribers.append(Subscriber(self.topics, self._validators, protocol, qos).connect(port))
        return self._subscribers[-1]

    def judge(self, seqs: range) -> None:
        for seq in seqs:
            fitted = fit_verdict(self._make_verdict(seq))
            self.outbox.append_many(verdict_messages(self.topics, fitted, with_plc=False))

    def stop(self, publisher: Publisher, drain_s: float = 5.0) -> None:
        self._publishers.remove(publisher)
        publisher.stop(drain_s)

    def close(self) -> None:
        for publisher in self._publishers:
            publisher.stop(0.0)
        for subscriber in self._subscribers:
            subscriber.close()
        self.outbox.close()
        for subscriber in self._subscribers:
            assert subscriber.invalid == []


@pytest.fixture
def rig(tmp_path: Path, topics: Topics, boot_id: str, make_verdict: Any, validators: Any) -> Iterator[Rig]:
    made = Rig(tmp_path, topics, boot_id, make_verdict, validators)
    yield made
    made.close()


@pytest.fixture
def meta(boot_id: str) -> Meta:
    return Meta(
        boot_id=boot_id,
        ts="2025-11-22T05:01:35.000123Z",
        version="0.1.0",
        station=Station(site="plant", area="paint", line="l1", station="s1"),
        recipe=Recipe(id="flange", version="3"),
        model=Model(name="flange", version="3", precision="fp32", engine_sha256=ZEROS),
        bundle_sha256=ZEROS,
        threshold=MetaThreshold(image=0.5, pixel=0.4, calibrated_fpr=0.01, n=120),
        camera=CameraIdentity(vendor="v", model="m", serial="SIM-1"),
    )


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_every_kind_of_message_arrives_valid(
    rig: Rig, mosquitto: Any, make_verdict: Any, meta: Meta, boot_id: str, protocol: Protocol
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
    eventually(lambda: all(subscriber.on(name) for name in wanted), "all kinds")

    assert subscriber.on("verdict")[0].payload == fitted.payload == subscriber.on("verdict/last")[0].payload
    assert subscriber.on(f"mask/{result_id}")[0].payload == b"\x89PNG\x00"
    assert subscriber.json("plc")[0]["v"] == "NG"
    assert subscriber.json("status")[0]["status"] == "online"
    assert subscriber.json("state")[-1]["state"] == "Ready"
    eventually(lambda: publisher.stats().pending == 0, "acknowledged")
    stats = publisher.stats()
    assert (stats.connected, stats.published, stats.acknowledged) == (True, 3, 3)
    if protocol == "5":
        properties = subscriber.on("verdict")[0].properties
        assert properties is not None
        assert properties.ContentType == "application/json"
        assert properties.UserProperty == [("schema", "urn:tfanet-edge:verdict:1")]
        assert properties.MessageExpiryInterval > 0


def test_late_joiners_find_status_meta_state_and_the_last_verdict(rig: Rig, mosquitto: Any, meta: Meta) -> None:
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
    eventually(lambda: len(late.messages) >= 4, "retained messages")
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


def test_a_broker_may_come_later(rig: Rig, mosquitto: Any) -> None:
    broker = mosquitto()
    publisher = rig.publisher(broker.port, reconnect_max_s=0.3)
    publisher.set_state(StateName.READY, "without a broker")
    rig.judge(range(20))
    eventually(lambda: publisher.last_error, "an error to show")
    assert str(broker.port) in str(publisher.last_error)
    assert not publisher.stats().connected
    assert publisher.stats().pending == 20

    broker.start()
    subscriber = rig.subscriber(broker.port)
    eventually(lambda: publisher.stats().pending == 0, "delivered")
    assert publisher.last_error is None
    eventually(lambda: subscriber.json("state"), "the state from before")
    eventually(lambda: 19 in [last["seq"] for last in subscriber.json("verdict/last")], "the newest, retained")


def test_nothing_is_lost_and_order_kept_when_the_broker_is_killed(rig: Rig, mosquitto: Any, tmp_path: Path) -> None:
    """With QoS 0 Mosquitto passes a message on before it acknowledges it, so that its own death loses none."""
    broker = mosquitto("persistence true", f"persistence_location {tmp_path}/", "queue_qos0_messages true").start()
    subscriber = rig.subscriber(broker.port, qos=0)
    broker.terminate()  # writes the subscription down, so that the broker knows it after it was killed
    broker.start()
    publisher = rig.publisher(broker.port)
    eventually(lambda: publisher.stats().connected, "connected")
    line = threading.Thread(target=rig.judge, args=(range(160),))
    line.start()
    eventually(lambda: len(subscriber.seqs()) > 20, "the first ones")
    broker.kill()
    line.join()
    eventually(lambda: not publisher.stats().connected, "the loss is noticed")
    assert publisher.stats().pending > 0
    broker.start()
    eventually(lambda: publisher.stats().connected, "connected again")
    rig.judge(range(160, 200))
    eventually(lambda: len(subscriber.seqs()) == 200, "all")

    assert [seq for seq in subscriber.seqs() if seq < 160] == list(range(160))
    assert [seq for seq in subscriber.seqs() if seq >= 160] == list(range(160, 200))
    eventually(lambda: publisher.stats().pending == 0, "acknowledged")
    assert publisher.stats().reconnects >= 1


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_refusal_is_no_connection_and_says_why(rig: Rig, mosquitto: Any, tmp_path: Path, protocol: Protocol) -> None:
    users = tmp_path / "users"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(users), "station", "right"], check=True)
    users.chmod(0o644)
    broker = mosquitto("allow_anonymous false", f"password_file {users}").start()
    password = tmp_path / "password"
    password.write_text("wrong\n")
    options = {"protocol": protocol, "username": "station", "password_file": password}
    refused = rig.publisher(broker.port, **options)
    rig.judge(range(5))
    eventually(lambda: refused.last_error, "refused")
    assert "refused" in str(refused.last_error)
    assert "user name and password" in str(refused.last_error)
    assert not refused.stats().connected
    assert refused.stats() == refused.stats().__class__(False, 0, 0, 0, 0, 5)
    rig.stop(refused)

    password.write_text("right\nsecond lines do not count\n")
    accepted = rig.publisher(broker.port, **options)
    eventually(lambda: accepted.stats().acknowledged == 5, "delivered with the right password")


def test_the_last_will_tells_of_a_killed_station(rig: Rig, mosquitto: Any, tmp_path: Path, boot_id: str) -> None:
    broker = mosquitto().start()
    subscriber = rig.subscriber(broker.port)
    program = (
        "import sys, time\nfrom pathlib import Path\n"
        "from edge.config import Identity, MqttConfig\nfrom edge.mqtt.publisher import Publisher\n"
        "from edge.outbox import Outbox\nfrom edge.wire import Topics\n"
        "topics = Topics(Identity(site='plant', area='paint', line='l1', station='s1'))\n"
        "outbox = Outbox(Path(sys.argv[1]), 100)\n"
        f"Publisher(MqttConfig(port={broker.port}), topics, outbox, boot_id={boot_id!r}, version='0').start()\n"
        "time.sleep(60)\n"
    )
    station = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "other.sqlite")])
    try:
        eventually(lambda: subscriber.json("status"), "online")
    finally:
        os.kill(station.pid, signal.SIGKILL)
        station.wait()
    eventually(lambda: len(subscriber.on("status")) == 2, "the will")
    online, offline = subscriber.json("status")
    assert (online["status"], offline["status"]) == ("online", "offline")
    assert offline["since"] is None
    assert offline["boot_id"] == boot_id


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize(
    ("limit", "dropped"),
    [("max_packet_size 20000", {"3.1.1": 1, "5": 1}), ("message_size_limit 20000", {"3.1.1": 0, "5": 1})],
)
def test_what_the_broker_cannot_take_never_blocks_what_is_behind(
    rig: Rig, mosquitto: Any, boot_id: str, protocol: Protocol, limit: str, dropped: dict[str, int]
) -> None:
    """With `message_size_limit` and 3.1.1, Mosquitto acknowledges what it throws away: nobody can know."""
    broker = mosquitto(limit).start()
    subscriber = rig.subscriber(broker.port)
    publisher = rig.publisher(broker.port, protocol=protocol)
    eventually(lambda: publisher.stats().connected, "connected")
    rig.judge(range(3))
    rig.outbox.append_many([Message(rig.topics.mask("x"), bytes(50_000), 1, False, "mask", boot_id, 2)])
    rig.judge(range(3, 6))
    eventually(lambda: publisher.stats().pending == 0, "the queue is empty")
    eventually(lambda: len(subscriber.seqs()) == 6, "all verdicts")
    assert subscriber.on("mask/x") == []
    assert publisher.stats().dropped_oversize == dropped[protocol]
    assert rig.outbox.gaps() == [Gap(boot_id, "mask", 2, 2)] * dropped[protocol]
    rig.judge(range(6, 8))
    eventually(lambda: len(subscriber.seqs()) == 8, "and it goes on")


def test_a_verdict_that_is_refused_stays_and_says_so(rig: Rig, mosquitto: Any, tmp_path: Path) -> None:
    """Only MQTT 5 lets a broker tell."""
    rules = tmp_path / "rules"
    rules.write_text(f"topic write {rig.topics.status}\n")
    publisher = rig.publisher(mosquitto(f"acl_file {rules}").start().port, protocol="5", publish_last=False)
    rig.judge(range(3))
    complaint = f"refuses messages on '{rig.topics.verdict}'"
    eventually(lambda: complaint in str(publisher.last_error), "refused")
    assert (publisher.stats().acknowledged, publisher.stats().pending) == (0, 3)


def test_what_the_configuration_forbids_is_never_handed_over(rig: Rig, mosquitto: Any, boot_id: str) -> None:
    broker = mosquitto().start()
    subscriber = rig.subscriber(broker.port)
    publisher = rig.publisher(broker.port, max_message_bytes=5000)
    mask = rig.topics.mask("x")
    rig.outbox.append_many([Message(mask, bytes(size), 1, False, "mask", boot_id, size) for size in (5001, 5000)])
    eventually(lambda: subscriber.on("mask/x"), "the one that fits")
    assert len(subscriber.on("mask/x")[0].payload) == 5000
    eventually(lambda: publisher.stats().pending == 0, "acknowledged")
    assert (publisher.stats().dropped_oversize, publisher.stats().reconnects) == (1, 0)


def test_what_an_earlier_run_left_is_delivered(rig: Rig, mosquitto: Any) -> None:
    rig.judge(range(30))
    rig.outbox.close()
    rig.outbox = Outbox(rig.path, 1000)
    broker = mosquitto().start()
    subscriber = rig.subscriber(broker.port)
    rig.publisher(broker.port)
    eventually(lambda: subscriber.seqs() == list(range(30)), "the earlier run's verdicts")


def test_an_overflow_is_an_alarm_until_the_backlog_is_delivered(rig: Rig, mosquitto: Any) -> None:
    rig.outbox.close()
    rig.outbox = Outbox(rig.path, 100)
    broker = mosquitto()
    rig.publisher(broker.port)
    rig.judge(range(130))
    broker.start()
    subscriber = rig.subscriber(broker.port)
    eventually(lambda: len(subscriber.on("alarm/outbox_overflow")) == 2, "raised and cleared")
    raised, cleared = subscriber.on("alarm/outbox_overflow")
    assert "30 messages dropped undelivered; newest: verdict 0 to 29" in json.loads(raised.payload)["reason"]
    assert cleared.payload == b""


def test_an_idle_publisher_costs_next_to_nothing(rig: Rig, mosquitto: Any) -> None:
    broker = mosquitto().start()
    connected = rig.publisher(broker.port)
    eventually(lambda: connected.stats().connected, "connected")
    time.sleep(0.1)
    before_s = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - before_s < 0.05


def test_the_subscriber_on_the_page_for_consumers_works(rig: Rig, mosquitto: Any, topics: Topics) -> None:
    page = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text(encoding="utf-8")
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


def test_a_broker_that_accepts_and_says_nothing_is_no_connection(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.mqtt.link._CONNECT_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        publisher = rig.publisher(mute.getsockname()[1])
        eventually(lambda: publisher.last_error, "given up")
        assert "no CONNACK within 0.2 s" in str(publisher.last_error)
        assert not publisher.stats().connected
        rig.stop(publisher)


def test_what_waits_is_delivered_even_when_stop_comes_at_once(rig: Rig, mosquitto: Any) -> None:
    broker = mosquitto().start()
    rig.judge(range(10))
    publisher = rig.publisher(broker.port)
    rig.stop(publisher)
    assert (publisher.stats().acknowledged, publisher.stats().pending) == (10, 0)


def test_stopping_without_a_broker_does_not_wait(rig: Rig, mosquitto: Any) -> None:
    publisher = rig.publisher(mosquitto().port)
    rig.judge(range(3))
    eventually(lambda: publisher.last_error, "tried")
    before_s = time.monotonic()
    rig.stop(publisher, drain_s=30)
    assert time.monotonic() - before_s < 2
    assert publisher.stats().pending == 3


def test_a_password_file_that_is_missing_is_named(tmp_path: Path, topics: Topics, boot_id: str) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", 100)
    config = MqttConfig(username="station", password_file=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="nowhere"):
        Publisher(config, topics, outbox, boot_id=boot_id, version="0")
    outbox.close()
