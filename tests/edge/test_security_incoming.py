"""What reaches the station from the broker, over a real Mosquitto."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from paho.mqtt import publish

from edge.config import MqttConfig
from edge.mqtt.link import Link
from edge.mqtt.packets import Incoming, Will


@pytest.fixture
def open_link() -> Iterator[Callable[..., Link]]:
    made: list[Link] = []
    bell, rope = socket.socketpair()

    def make(port: int, **options: Any) -> Link:
        config = MqttConfig.model_validate({"port": port, **options})
        made.append(Link(config, None, "station", Will("gone", b""), bell))
        return made[-1]

    yield make
    for link in made:
        link.close()
    bell.close()
    rope.close()


def wait_until(link: Link, condition: Callable[[], object], within_s: float = 5.0) -> None:
    give_up_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_s
        link.wait(0.05)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_messages_come_whole_too_large_or_retained(mosquitto: Any, open_link: Any, protocol: str) -> None:
    broker = mosquitto().start()
    publish.single("cmd/old", b"kept", qos=1, retain=True, port=broker.port)
    link = open_link(broker.port, protocol=protocol)
    got: list[Incoming] = []
    link.subscribe("cmd/+", got.append, 16)
    wait_until(link, lambda: got)
    publish.multiple([("cmd/new", b"x" * 16, 1, False), ("cmd/big", b"x" * 17, 1, False)], port=broker.port)
    wait_until(link, lambda: len(got) == 3)
    assert got == [
        Incoming("cmd/old", b"kept", True),
        Incoming("cmd/new", b"x" * 16, False),
        Incoming("cmd/big", None, False),
    ]


def test_a_broker_that_lets_nobody_listen_is_a_warning_and_no_more(
    mosquitto: Any, open_link: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic write verdict\n")
    rules.chmod(0o644)
    broker = mosquitto(f"acl_file {rules}").start()
    link = open_link(broker.port)
    got: list[Incoming] = []
    with caplog.at_level(logging.WARNING):
        link.subscribe("cmd/+", got.append, 16)
        link.send("verdict", b"{}", qos=1, retain=False, kind="verdict")
        wait_until(link, lambda: link.receipts)
    assert not got
    # Mosquitto 2.0 grants a subscription that its rules do not, and keeps the messages to itself.
    assert all("cmd/+" in record.getMessage() for record in caplog.records)
