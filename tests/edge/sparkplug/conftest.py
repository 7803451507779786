"""A bridge between two real brokers, a station on one side, a host application on the other, and what is on the wire.

Messages are read by a decoder of its own, so that a mistake in the bridge's would be seen.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from edge.sparkplug.bridge import Bridge
from edge.sparkplug.settings import BridgeConfig, SparkplugConfig, StationsConfig

METRIC_FIELDS = {1: "name", 2: "alias", 3: "timestamp", 4: "datatype", 5: "is_historical", 7: "is_null"}
VALUE_FIELDS = {11: "long", 13: "double", 14: "boolean", 15: "string"}
WIRE_TYPES = {1: 2, 2: 0, 3: 0, 4: 0, 5: 0, 7: 0, 11: 0, 13: 1, 14: 0, 15: 2}


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Number, wire type and value of each field; Protocol Buffers, encoding guide."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = varint(data, at)
        else:
            size, at = (8, at) if wire == 1 else varint(data, at)
            assert wire in (1, 2)
            value, at = data[at : at + size], at + size
            assert len(value) == size
        yield number, wire, value


def read_metric(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, wire, raw in fields(data):
        assert wire == WIRE_TYPES[number]
        value = raw.decode() if number in (1, 15) else bool(raw) if number in (5, 7, 14) else raw
        if number == 13:
            (value,) = struct.unpack("<d", raw)
        if number in VALUE_FIELDS:
            assert "value" not in found
            found |= {"kind": VALUE_FIELDS[number], "value": value}
        else:
            assert METRIC_FIELDS[number] not in found
            found[METRIC_FIELDS[number]] = value
    return found


def read_payload(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"metrics": []}
    for number, wire, raw in fields(data):
        assert wire == {1: 0, 2: 2, 3: 0}[number]
        if number == 2:
            found["metrics"].append(read_metric(raw))
        else:
            found[{1: "timestamp", 3: "seq"}[number]] = raw
    return found


def eventually(condition: Callable[[], object], what: str, within_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {within_s} s: {what}"
        time.sleep(0.005)


@dataclass
class Message:
    topic: str
    kind: str
    device: str | None
    payload: dict[str, Any]
    names: dict[int, str] = field(default_factory=dict)

    @property
    def seq(self) -> int | None:
        return self.payload.get("seq")

    def values(self) -> dict[str, Any]:
        """Value by name; aliases are looked up in the births so far."""
        return {self.name(metric): metric.get("value") for metric in self.payload["metrics"]}

    def name(self, metric: dict[str, Any]) -> str:
        return str(metric.get("name") or self.names[metric["alias"]])

    def historical(self) -> set[str]:
        return {self.name(metric) for metric in self.payload["metrics"] if metric.get("is_historical")}


class Host:
    """A host application that keeps every message of the edge nodes in the order of arrival."""

    def __init__(self, port: int) -> None:
        self.messages: list[Message] = []
        self._names: dict[int, str] = {}
        subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, "host")
        self._client.reconnect_delay_set(0.02, 0.05)  # type: ignore[arg-type]
        self._client.on_connect = lambda client, *_: client.subscribe("spBv1.0/#", qos=1)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = lambda _client, _data, message: self._keep(message.topic, message.payload)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert subscribed.wait(10)

    def _keep(self, topic: str, data: bytes) -> None:
        levels = topic.split("/")
        if levels[1] == "STATE" or levels[2] in ("NCMD", "DCMD"):
            return
        payload = read_payload(data)
        self._names |= {m["alias"]: m["name"] for m in payload["metrics"] if "name" in m and "alias" in m}
        self.messages.append(
            Message(topic, levels[2], levels[4] if len(levels) > 4 else None, payload, dict(self._names))
        )

    def of(self, kind: str) -> list[Message]:
        return [message for message in list(self.messages) if message.kind == kind]

    def kinds(self) -> list[str]:
        return [message.kind for message in list(self.messages)]

    def verdicts(self) -> list[dict[str, Any]]:
        return [values for message in self.of("DDATA") if "Result/Verdict" in (values := message.values())]

    def seqs(self) -> list[int]:
        return [values["Result/Sequence"] for values in self.verdicts()]

    def publish(self, topic: str, payload: bytes | str, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(5)

    def say_state(self, host_id: str, online: bool, timestamp: int) -> None:
        self.publish(f"spBv1.0/STATE/{host_id}", json.dumps({"online": online, "timestamp": timestamp}), retain=True)

    def ask_for_rebirth(self, *, retain: bool = False) -> None:
        """`Node Control/Rebirth` = true, as written by hand from the encoding guide."""
        metric = b"\x0a\x14Node Control/Rebirth" + b"\x20\x0b" + b"\x70\x01"
        self.publish("spBv1.0/plant/NCMD/line 1", b"\x08\x01\x12" + bytes([len(metric)]) + metric, retain=retain)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class FakeStation:
    """Speaks as a station does: status with a Last Will, state, verdicts."""

    def __init__(self, port: int, topics: Any, make_verdict: Any, boot_id: str) -> None:
        self.topics, self._make_verdict, self._boot_id, self._port = topics, make_verdict, boot_id, port
        self.connect()

    def connect(self) -> None:
        self._client = Client(CallbackAPIVersion.VERSION2, "station")
        self._client.will_set(self.topics.status, self._status("offline"), qos=1, retain=True)
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()

    def say_status(self, status: str) -> None:
        self.publish(self.topics.status, self._status(status), retain=True)

    def say_state(self, name: str, reason: str) -> None:
        state = {"state": name, "reason": reason, "ts": utc(0), "boot_id": self._boot_id}
        self.publish(self.topics.state, json.dumps(state).encode(), retain=True)

    def judge(self, *seqs: int, age_s: float = 0.0, **changes: Any) -> None:
        for seq in seqs:
            verdict = self._make_verdict(seq, **{"ts": utc(age_s), **changes})
            self.publish(self.topics.verdict, verdict.encode())

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(5)

    def vanish(self) -> None:
        """The network is cut: the broker sends the Last Will."""
        self._client.loop_stop()
        connection = self._client.socket()
        assert connection is not None
        connection.close()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _status(self, status: str) -> bytes:
        return json.dumps({"status": status, "boot_id": self._boot_id, "later_addition": 1}).encode()


def utc(age_s: float) -> str:
    return (datetime.now(timezone.utc) - timedelta(seconds=age_s)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True)
class Packet:
    """An MQTT control packet between edge node and broker; `link` counts connections from 0."""

    link: int
    is_out: bool
    kind: str
    flags: int
    body: bytes

    def _text(self, at: int) -> tuple[bytes, int]:
        end = at + 2 + int.from_bytes(self.body[at : at + 2], "big")
        return self.body[at + 2 : end], end

    @property
    def topic(self) -> str:
        return self._text(0)[0].decode() if self.kind == "PUBLISH" else ""

    @property
    def levels(self) -> list[str]:
        return self.topic.split("/")

    @property
    def qos(self) -> int:
        return self.flags >> 1 & 3

    @property
    def is_retained(self) -> bool:
        return bool(self.flags & 1)

    @property
    def content(self) -> dict[str, Any]:
        _, at = self._text(0)
        return read_payload(self.body[at + 2 if self.qos else at :])

    @property
    def seq(self) -> int | None:
        return self.content.get("seq")

    def subscriptions(self) -> dict[str, int]:
        found, at = {}, 2
        while at < len(self.body):
            topic, at = self._text(at)
            found[topic.decode()] = self.body[at]
            at += 1
        return found

    def connect(self) -> dict[str, Any]:
        protocol, at = self._text(0)
        flags = self.body[at + 1]
        _, at = self._text(at + 4)
        topic, at = self._text(at)
        return {
            "protocol": (protocol, self.body[6]),
            "is_clean": bool(flags & 2),
            "has_will": bool(flags & 4),
            "will_qos": flags >> 3 & 3,
            "is_will_retained": bool(flags & 32),
            "will_topic": topic.decode(),
            "will": read_payload(self._text(at)[0]),
        }


PACKETS = {1: "CONNECT", 3: "PUBLISH", 8: "SUBSCRIBE", 14: "DISCONNECT"}


class Tap:
    """Between the edge node and its broker: keeps the packets of both directions in their order."""

    def __init__(self, port: int) -> None:
        self.packets: list[Packet] = []
        self.open_at_once = 0
        self._target = port
        self._open = 0
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        links = 0
        with suppress(OSError):
            while True:
                edge_node, _ = self._server.accept()
                broker = socket.create_connection(("127.0.0.1", self._target))
                broker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._open += 1
                    self.open_at_once = max(self.open_at_once, self._open)
                for source, sink, is_out in ((edge_node, broker, True), (broker, edge_node, False)):
                    thread = threading.Thread(target=self._pump, args=(source, sink, links, is_out))
                    self._threads.append(thread)
                    thread.start()
                links += 1

    def _pump(self, source: socket.socket, sink: socket.socket, link: int, is_out: bool) -> None:
        waiting = b""
        with suppress(OSError):
            while data := source.recv(65536):
                waiting = self._keep(waiting + data, link, is_out)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        source.close()
        with self._lock:
            self._open -= is_out

    def _keep(self, data: bytes, link: int, is_out: bool) -> bytes:
        while len(data) > 1 and (data[1] < 0x80 or len(data) > 2):
            size, at = varint(data, 1)
            if len(data) < at + size:
                break
            kind = PACKETS.get(data[0] >> 4)
            if kind is not None:
                with self._lock:
                    self.packets.append(Packet(link, is_out, kind, data[0] & 15, data[at : at + size]))
            data = data[at + size :]
        return data

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(5)


class Plant:
    """Both brokers, and whatever is started between them."""

    eventually = staticmethod(eventually)

    def __init__(self, directory: Path, mosquitto: Any, new_station: Callable[[int], FakeStation]) -> None:
        self.shop_floor = mosquitto().start()
        self.infrastructure = mosquitto().start()
        self.directory = directory
        self._new_station = new_station
        self._closing: list[Callable[[], None]] = []
        self.running: list[tuple[Bridge, threading.Thread]] = []
        self.errors: list[Exception] = []

    def config(self, **options: Any) -> BridgeConfig:
        sparkplug = {
            "port": self.infrastructure.port,
            "group_id": "plant",
            "edge_node_id": "line 1",
            "bdseq_path": self.directory / "bdseq",
            "reconnect_max_s": 0.3,
        }
        return BridgeConfig(
            stations=StationsConfig(port=self.shop_floor.port, filter="plant/paint/l1/+"),
            sparkplug=SparkplugConfig(**{**sparkplug, **options}),
        )

    def bridge(self, **options: Any) -> Bridge:
        bridge = Bridge(self.config(**options))

        def run() -> None:
            try:
                bridge.run()
            except Exception as error:  # noqa: BLE001 - told at the end of the test
                self.errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        self.running.append((bridge, thread))
        return bridge

    def stop_bridge(self) -> None:
        bridge, thread = self.running.pop()
        bridge.stop()
        thread.join(10)
        assert not thread.is_alive()

    def host(self) -> Host:
        host = Host(self.infrastructure.port)
        self._closing.append(host.close)
        return host

    def tap(self) -> Tap:
        tap = Tap(self.infrastructure.port)
        self._closing.append(tap.close)
        return tap

    def station(self) -> FakeStation:
        station = self._new_station(self.shop_floor.port)
        self._closing.append(station.close)
        return station

    def close(self) -> None:
        while self.running:
            self.stop_bridge()
        for close in self._closing:
            close()
        assert self.errors == []


@pytest.fixture
def plant(tmp_path: Path, mosquitto: Any, topics: Any, make_verdict: Any, boot_id: str) -> Iterator[Plant]:
    made = Plant(tmp_path, mosquitto, lambda port: FakeStation(port, topics, make_verdict, boot_id))
    yield made
    made.close()


@pytest.fixture(scope="session")
def read() -> Callable[[bytes], dict[str, Any]]:
    """The decoder that knows nothing of the bridge's."""
    return read_payload
