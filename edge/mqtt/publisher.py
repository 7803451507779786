"""Delivery: a thread that carries the outbox to the broker and says whether the station is there.

Nothing here is ever waited for by inspection. A broker that is absent, refuses or goes away is tried again, ever more
slowly up to a limit; a message leaves the outbox only when the broker has acknowledged it, or can never take it.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from dataclasses import dataclass
from typing import Literal

from edge.config import MqttConfig
from edge.credentials import read_secret
from edge.errors import DeliveryError, OutboxError, TfanetEdgeError
from edge.events import Record, unrecorded
from edge.mqtt.link import Link
from edge.mqtt.notice_board import Notice, NoticeBoard
from edge.mqtt.outbox_watch import OutboxWatch
from edge.mqtt.packets import Receiver, Will
from edge.mqtt.session import Session, Tally
from edge.notices import Alarm, Meta, Metrics, State, StateName, Status
from edge.outbox import Outbox
from edge.replay import REQUEST_MAX_BYTES, ReplayDesk
from edge.wire import Topics, utc_text

_BACKOFF_FIRST_S = 0.25
_FAREWELL_S = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PublisherStats:
    """Figures since the start; messages of the outbox, retained notices not counted.

    Attributes:
        connected: the broker has accepted the station and the connection stands.
        published: handed to the broker, repetitions included.
        acknowledged: taken by the broker.
        dropped_oversize: given up because the broker can never take them.
        reconnects: connections after the first.
        pending: waiting in the outbox.
    """

    connected: bool
    published: int
    acknowledged: int
    dropped_oversize: int
    reconnects: int
    pending: int


class Publisher:
    """Owns the connection to the broker and the delivering end of the outbox."""

    def __init__(
        self,
        config: MqttConfig,
        topics: Topics,
        outbox: Outbox,
        *,
        boot_id: str,
        version: str,
        backlog_per_s: float = 1500.0,
        record: Record = unrecorded,
    ) -> None:
        """Set up; nothing is sent before `start`.

        Args:
            config: broker, protocol, limits.
            topics: the station's.
            outbox: what is delivered.
            boot_id: of the station.
            version: of its software.
            backlog_per_s: messages of a backlog and of replays per second.
            record: told of damage to the outbox.

        Raises:
            ConfigError: the password file cannot be read.
        """
        self._config = config
        self._topics = topics
        self._outbox = outbox
        self._boot_id = boot_id
        self._version = version
        self._password = _read_password(config)
        self._tally = Tally()
        self._connected = False
        self._connections = 0
        self._last_error: TfanetEdgeError | None = None
        self._backlog_per_s = backlog_per_s
        self._watch = OutboxWatch(outbox, self.set_alarm, record)
        self._replays = ReplayDesk(outbox)
        self._listeners: list[tuple[str, Receiver, int]] = []
        self.listen(topics.replay_request, self._replays.receive, REQUEST_MAX_BYTES)
        self._stopping = threading.Event()
        self._stop_at_s = 0.0
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._rope.setblocking(False)
        self._board = NoticeBoard(self._ring)
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    @property
    def last_error(self) -> TfanetEdgeError | None:
        """Why nothing is delivered at the moment; None while the broker is connected."""
        return self._last_error

    def stats(self) -> PublisherStats:
        """The figures now."""
        return PublisherStats(
            connected=self._connected,
            published=self._tally.published,
            acknowledged=self._tally.acknowledged,
            dropped_oversize=self._tally.dropped_oversize,
            reconnects=max(0, self._connections - 1),
            pending=self._outbox.count(),
        )

    def listen(self, topic: str, receiver: Receiver, max_bytes: int) -> None:
        """Hand messages on `topic` to `receiver`, in the publisher's thread (`Link.subscribe`); before `start`."""
        self._listeners.append((topic, receiver, max_bytes))

    def answer(self, topic: str, kind: str, payload: bytes) -> None:
        """Publish once with QoS 1, and not from the outbox: an answer is worth nothing after a restart."""
        self._board.answer(Notice(topic, kind, payload, 1, False))

    def start(self) -> None:
        """Start delivering; whether a broker is there does not matter."""
        self._put_status("online")
        self._watch.clear()
        self._outbox.on_append(self._ring)
        self._thread.start()

    def stop(self, drain_s: float = 5.0) -> None:
        """Deliver what is waiting for at most `drain_s`, say `stopped`, and end; without a broker, end at once."""
        self._stop_at_s = time.monotonic() + drain_s
        self._stopping.set()
        self._ring()
        self._thread.join()
        self._outbox.on_append(lambda: None)
        self._bell.close()
        self._rope.close()

    def set_state(self, name: StateName, reason: str) -> None:
        """Publish the station's state, retained; the newest wins, also after an outage."""
        state = State(boot_id=self._boot_id, ts=utc_text(time.time_ns()), state=name, reason=reason)
        self._board.put(self._topics.state, "state", state.encode())

    def set_meta(self, meta: Meta) -> None:
        """Publish the birth certificate, retained."""
        self._board.put(self._topics.meta, "meta", meta.encode())

    def set_alarm(self, code: str, reason: str | None) -> None:
        """Raise an alarm, retained; None clears it."""
        payload = b""
        if reason is not None:
            payload = Alarm(boot_id=self._boot_id, ts=utc_text(time.time_ns()), code=code, reason=reason).encode()
        self._board.put(self._topics.alarm(code), "alarm", payload)

    def send_metrics(self, metrics: Metrics) -> None:
        """Publish figures once, QoS 0; the newest replaces one that could not be sent yet."""
        self._board.put(self._topics.metrics, "metrics", metrics.encode(), retain=False)

    def _run(self) -> None:
        delay_s = _BACKOFF_FIRST_S
        while True:
            acknowledged = self._tally.acknowledged
            try:
                self._watch.look()
                self._serve()
            except (DeliveryError, OutboxError) as error:
                self._report(error)
            finally:
                self._connected = False
            if self._tally.acknowledged > acknowledged:
                delay_s = _BACKOFF_FIRST_S
            if self._stopping.wait(delay_s):
                return
            delay_s = min(2 * delay_s, self._config.reconnect_max_s)

    def _serve(self) -> None:
        """One connection, until it is lost or the station stops."""
        will = Will(self._topics.status, self._status("offline", None).encode())
        link = Link(self._config, self._password, self._topics.root, will, self._bell)
        try:
            self._connections += 1
            self._report(None)
            for topic, receiver, max_bytes in self._listeners:
                link.subscribe(topic, receiver, max_bytes)
            session = Session(
                link,
                self._outbox,
                self._board,
                self._replays,
                self._tally,
                self._topics,
                backlog_per_s=self._backlog_per_s,
                publish_last=self._config.publish_last,
            )
            # What is appended from now on is live.
            self._connected = True
            while not self._drained():
                session.step()
                self._watch.look()
                self._report(session.complaint)
            self._put_status("stopped")
            self._say_goodbye(session)
        finally:
            link.close()

    def _drained(self) -> bool:
        if not self._stopping.is_set():
            return False
        return self._outbox.count() == 0 or time.monotonic() >= self._stop_at_s

    def _say_goodbye(self, session: Session) -> None:
        give_up_s = time.monotonic() + _FAREWELL_S
        session.step()
        while not session.settled and time.monotonic() < give_up_s:
            session.step()

    def _report(self, error: TfanetEdgeError | None) -> None:
        if error is not None and str(error) != str(self._last_error):
            _log.warning("%s", error)
        self._last_error = error

    def _status(self, status: Literal["online", "stopped", "offline"], since: str | None) -> Status:
        return Status(status=status, boot_id=self._boot_id, version=self._version, since=since)

    def _put_status(self, status: Literal["online", "stopped"]) -> None:
        payload = self._status(status, utc_text(time.time_ns())).encode()
        self._board.put(self._topics.status, "status", payload)

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # it is ringing already, or delivery has ended
            self._rope.send(b"\0")


def _read_password(config: MqttConfig) -> str | None:
    if config.password_file is None:
        return None
    return read_secret(config.password_file, "mqtt.password_file")
