"""A broker that can be killed and frozen, and a consumer that sits at the broker itself."""

from __future__ import annotations

import getpass
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as paho
from chaos.checker import Delivery
from paho.mqtt.enums import CallbackAPIVersion
from ports import free_port

RECOVERY_S = 20.0


class RecoveryError(Exception):
    """Something did not come back in time."""


def until(condition: Callable[[], bool], what: str, timeout_s: float = RECOVERY_S) -> None:
    """Wait for it.

    Raises:
        RecoveryError: it did not become true in time.
    """
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise RecoveryError(f"no {what} within {timeout_s:g} s")
        time.sleep(0.01)


def find_mosquitto() -> str | None:
    """The broker's program."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class Broker:
    """Mosquitto, which writes its sessions down after every change."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        directory.mkdir()
        self._state = directory / "mosquitto.db"
        self._config = directory / "mosquitto.conf"
        # As root it would become another user, who may not read the directory.
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nuser {getpass.getuser()}\nallow_anonymous true\npersistence true\n"
            f"persistence_location {directory}/\nautosave_on_changes true\nautosave_interval 1\n"
            "max_queued_messages 0\nmax_inflight_messages 0\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        binary = find_mosquitto()
        assert binary is not None
        self.process = subprocess.Popen(
            [binary, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._listens, "broker")

    def end(self, number: signal.Signals) -> None:
        """End it by a signal."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)
            self.process.wait(10)
            self.process = None

    def forget(self) -> None:
        """Lose all sessions; it must have ended."""
        self._state.unlink(missing_ok=True)

    def send(self, number: signal.Signals) -> None:
        """SIGSTOP or SIGCONT."""
        assert self.process is not None
        self.process.send_signal(number)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


class Consumer:
    """Sits at the broker itself, with a session that the broker keeps."""

    def __init__(self, port: int, topic: str) -> None:
        self.deliveries: list[Delivery] = []
        self.subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="witness", clean_session=False)
        self._client.reconnect_delay_set(0.05, 0.05)  # type: ignore[arg-type]
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: self.subscribed.set()
        self._client.on_disconnect = lambda *_: self.subscribed.clear()
        self._client.on_message = lambda _client, _data, message: self.deliveries.append(
            Delivery.of(bytes(message.payload), time.monotonic_ns())
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        until(self.subscribed.is_set, "subscription")

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()
