"""A whole station with its simulated camera, its broker and a consumer, for tests."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge.config import (
    DashboardConfig,
    GenicamConfig,
    Identity,
    MqttConfig,
    OutboxConfig,
    StationConfig,
    TriggerConfig,
)
from edge.errors import EngineLostError
from edge.startup import open_station
from edge.wire import Topics
from simulator.build import build
from simulator.replay import ReplayCamera

IDENTITY = Identity(site="plant", area="paint", line="l1", station="s1")
GOOD, BAD = 100, 250


class Consumer:
    """Keeps everything below the station's topic."""

    def __init__(self, port):
        self.topics = Topics(IDENTITY)
        self.messages = []
        # A session that the broker keeps, so that nothing is missed while this end is away.
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="consumer", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(f"{self.topics.root}/#", qos=1)
        self._client.on_message = lambda _client, _data, message: self.messages.append((message.topic, message.payload))
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert subscribed.wait(10)

    def of(self, topic):
        return [json.loads(payload) for name, payload in list(self.messages) if name == topic]

    @property
    def verdicts(self):
        return self.of(self.topics.verdict)

    @property
    def by_result_id(self):
        """Repetitions, which QoS 1 allows, taken out."""
        return {verdict["result_id"]: verdict for verdict in self.verdicts}

    @property
    def states(self):
        return [state["state"] for state in self.of(self.topics.state)]

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


class Line:
    """A station that runs in a thread, its camera, its broker and a consumer."""

    def __init__(self, config, broker):
        self.config = config
        self.broker = broker
        self.stop = threading.Event()
        self.consumer = None
        self.station = None
        self.error = None
        self._open = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self, *, consume=True):
        if consume:
            self.consumer = Consumer(self.broker.port)
        self._thread.start()
        assert self._open.wait(20)
        return self

    def _run(self):
        with open_station(self.config, is_simulated=True) as self.station:
            self._open.set()
            try:
                self.station.run(self.stop)
            except EngineLostError as error:
                self.error = error

    def end(self):
        self.stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self.consumer is not None:
            fired = self.station.verdicts.total()
            until(lambda: len(self.consumer.verdicts) == fired, f"{fired} verdicts")
            self.consumer.close()


def until(condition: Callable[[], bool], what: str, timeout_s: float = 20.0):
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"no {what} within {timeout_s} s"
        time.sleep(0.01)


@pytest.fixture
def replay(tmp_path, monkeypatch):
    """A camera that sees a good part and a bad one in turn."""
    images = np.full((2, 128, 128, 3), GOOD, np.uint8)
    images[1, 40:60, 70:80] = BAD
    monkeypatch.setenv("REPLAY_CAMERAS", str(tmp_path / "cameras"))
    with ReplayCamera.create(tmp_path / "cameras", "R1", images) as camera:
        yield camera


@pytest.fixture
def make_line(tmp_path, bundle_dir, replay, mosquitto):
    lines = []

    def make(broker=None, **changes):
        broker = broker or mosquitto().start()
        settings = {
            "bundle": bundle_dir,
            "identity": IDENTITY,
            "camera": GenicamConfig(
                producer=build(), serial="R1", features={"PixelFormat": "RGB8", "ExposureTime": 5000.0}, backoff_s=0.1
            ),
            "trigger": TriggerConfig(interval_ms=20),
            "mqtt": MqttConfig(port=broker.port, reconnect_max_s=0.3),
            "outbox": OutboxConfig(path=tmp_path / "outbox.sqlite"),
            "dashboard": DashboardConfig(port=0),
        }
        lines.append(Line(StationConfig(**(settings | changes)), broker))
        return lines[-1]

    yield make
    for line in lines:
        line.stop.set()
        if line._thread.is_alive():
            line._thread.join(30)


def check_complete(line, validators, *, in_order=True):
    """Every trigger has one verdict, and every message keeps the published schema."""
    verdicts = line.consumer.verdicts
    seqs = [verdict["seq"] for verdict in verdicts]
    assert (seqs if in_order else sorted(seqs)) == list(range(line.station.verdicts.total()))
    assert sorted(verdict["part"]["trigger_id"] for verdict in verdicts) == list(range(len(verdicts)))
    for verdict in verdicts:
        validators["verdict"].validate(verdict)
    assert line.station.publisher.stats().pending == 0
