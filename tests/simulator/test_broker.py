from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from simulator.broker import embedded_broker

PROGRAM = """
import os, time
from simulator.broker import embedded_broker
with embedded_broker() as (host, port):
    print(port, flush=True)
    time.sleep(60)
"""


def eventually(condition: Callable[[], object], what: str, within_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {within_s} s: {what}"
        time.sleep(0.01)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def client(port: int, received: list[MQTTMessage], topic: str, will: str | None = None) -> Client:
    made = Client(CallbackAPIVersion.VERSION2)
    subscribed: list[Any] = []
    made.on_connect = lambda c, *_: c.subscribe(topic, qos=1)
    made.on_subscribe = lambda *_: subscribed.append(True)
    made.on_message = lambda _client, _data, message: received.append(message)
    if will is not None:
        made.will_set(will, b"gone", qos=1, retain=True)
    made.connect("127.0.0.1", port)
    made.loop_start()
    eventually(lambda: subscribed, "subscribed")
    return made


def test_it_does_what_a_station_needs_of_a_broker(capfd: pytest.CaptureFixture[str]) -> None:
    with embedded_broker() as (host, port):
        assert host == "127.0.0.1"
        received: list[MQTTMessage] = []
        reader = client(port, received, "root/#")
        writer = client(port, [], "none", will="root/status")
        for number in range(50):
            writer.publish("root/verdict", b"%d" % number, qos=1).wait_for_publish(5)
        writer.publish("root/state", b"Ready", qos=1, retain=True).wait_for_publish(5)
        eventually(lambda: len(received) == 51, "all messages")
        assert [message.payload for message in received[:50]] == [b"%d" % number for number in range(50)]

        late: list[MQTTMessage] = []
        joiner = client(port, late, "root/state")
        eventually(lambda: late, "the retained message")
        assert (late[0].payload, late[0].retain) == (b"Ready", True)

        connection = writer.socket()
        assert connection is not None
        writer._reconnect_on_failure = False
        connection.shutdown(socket.SHUT_RDWR)  # without a goodbye
        eventually(lambda: received[-1].topic == "root/status", "the Last Will")
        for open_client in (reader, joiner, writer):
            open_client.disconnect()
            open_client.loop_stop()
    assert not listens(port)
    written = capfd.readouterr()
    assert (written.out, written.err) == ("", "")


def test_two_brokers_live_side_by_side() -> None:
    with embedded_broker() as (_, first), embedded_broker() as (_, second):
        assert first != second
        assert listens(first)
        assert listens(second)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_a_parent_that_dies(how: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout as output:
        port = int(output.readline())
    assert listens(port)
    os.kill(parent.pid, how)
    parent.wait()
    eventually(lambda: not listens(port), "the broker has ended")
