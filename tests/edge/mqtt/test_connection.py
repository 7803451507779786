"""When a publisher counts as connected, and how it starts and stops, with a real Mosquitto."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import pytest

from edge.config import MqttConfig
from edge.errors import ConfigError
from edge.manifest import Sha256
from edge.mqtt.publisher import Publisher
from edge.notices import StateName
from edge.outbox import Outbox
from edge.wire import Topics

Protocol = Literal["3.1.1", "5"]
ZEROS: Sha256 = "0" * 64


def test_a_broker_may_come_later(rig: Any, mosquitto: Any) -> None:
    broker = mosquitto()
    publisher = rig.publisher(broker.port, reconnect_max_s=0.3)
    publisher.set_state(StateName.READY, "without a broker")
    rig.judge(range(20))
    rig.eventually(lambda: publisher.last_error, "an error to show")
    assert str(broker.port) in str(publisher.last_error)
    assert not publisher.stats().connected
    assert publisher.stats().pending == 20

    broker.start()
    subscriber = rig.subscriber(broker.port)
    rig.eventually(lambda: publisher.stats().pending == 0, "delivered")
    assert publisher.last_error is None
    rig.eventually(lambda: subscriber.json("state"), "the state from before")
    rig.eventually(lambda: 19 in [last["seq"] for last in subscriber.json("verdict/last")], "the newest, retained")


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_refusal_is_no_connection_and_says_why(rig: Any, mosquitto: Any, tmp_path: Path, protocol: Protocol) -> None:
    users = tmp_path / "users"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(users), "station", "right"], check=True)
    users.chmod(0o644)
    broker = mosquitto("allow_anonymous false", f"password_file {users}").start()
    password = tmp_path / "password"
    password.write_text("wrong\n")
    options = {"protocol": protocol, "username": "station", "password_file": password}
    refused = rig.publisher(broker.port, **options)
    rig.judge(range(5))
    rig.eventually(lambda: refused.last_error, "refused")
    assert "refused" in str(refused.last_error)
    assert "user name and password" in str(refused.last_error)
    assert not refused.stats().connected
    assert refused.stats() == refused.stats().__class__(False, 0, 0, 0, 0, 5)
    rig.stop(refused)

    password.write_text("right\nsecond lines do not count\n")
    accepted = rig.publisher(broker.port, **options)
    rig.eventually(lambda: accepted.stats().acknowledged == 5, "delivered with the right password")


def test_the_last_will_tells_of_a_killed_station(rig: Any, mosquitto: Any, tmp_path: Path, boot_id: str) -> None:
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
        rig.eventually(lambda: subscriber.json("status"), "online")
    finally:
        os.kill(station.pid, signal.SIGKILL)
        station.wait()
    rig.eventually(lambda: len(subscriber.on("status")) == 2, "the will")
    online, offline = subscriber.json("status")
    assert (online["status"], offline["status"]) == ("online", "offline")
    assert offline["since"] is None
    assert offline["boot_id"] == boot_id


def test_an_idle_publisher_costs_next_to_nothing(rig: Any, mosquitto: Any) -> None:
    broker = mosquitto().start()
    connected = rig.publisher(broker.port)
    rig.eventually(lambda: connected.stats().connected, "connected")
    time.sleep(0.1)
    before_s = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - before_s < 0.05


def test_a_broker_that_accepts_and_says_nothing_is_no_connection(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.mqtt.link._CONNECT_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        publisher = rig.publisher(mute.getsockname()[1])
        rig.eventually(lambda: publisher.last_error, "given up")
        assert "no CONNACK within 0.2 s" in str(publisher.last_error)
        assert not publisher.stats().connected
        rig.stop(publisher)


def test_stopping_without_a_broker_does_not_wait(rig: Any, mosquitto: Any) -> None:
    publisher = rig.publisher(mosquitto().port)
    rig.judge(range(3))
    rig.eventually(lambda: publisher.last_error, "tried")
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
