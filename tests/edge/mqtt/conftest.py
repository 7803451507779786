"""A publisher and subscribers at a real Mosquitto."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from jsonschema import Draft202012Validator
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.config import MqttConfig
from edge.delivery import verdict_messages
from edge.events import Fact
from edge.manifest import Sha256
from edge.messages import Model, Recipe, Station, fit_verdict
from edge.mqtt.publisher import Publisher
from edge.notices import CameraIdentity, Meta, MetaThreshold
from edge.outbox import Outbox
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
        if name not in ("mask", "replay") and message.payload:
            errors = list(self._validators[name].iter_errors(json.loads(message.payload)))
            self.invalid += [f"{message.topic}: {error.message}" for error in errors]
        self.messages.append(message)


class Rig:
    """A publisher with its outbox, and subscribers."""

    eventually = staticmethod(eventually)

    def __init__(self, directory: Path, topics: Topics, boot_id: str, make_verdict: Any, validators: Any) -> None:
        self.topics = topics
        self._boot_id = boot_id
        self._make_verdict = make_verdict
        self._validators = validators
        self.path = directory / "outbox.sqlite"
        self.outbox = Outbox(self.path, 1000)
        self.facts: list[Fact] = []
        self._publishers: list[Publisher] = []
        self._subscribers: list[Subscriber] = []

    def publisher(self, port: int, *, backlog_per_s: float = 1500.0, **options: Any) -> Publisher:
        config = MqttConfig(**{"port": port, "reconnect_max_s": 0.5, **options})
        publisher = Publisher(
            config,
            self.topics,
            self.outbox,
            boot_id=self._boot_id,
            version="0.1.0",
            backlog_per_s=backlog_per_s,
            record=self.facts.append,
        )
        self._publishers.append(publisher)
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
