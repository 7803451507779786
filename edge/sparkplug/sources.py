"""What the bridge hears of stations: their verdicts, one at a time, and whether they are there."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.consumer import BadMessage, Broker, Consumer, MessageError, Missing, Ordering, Verdict
from edge.consumer.fields import Fields, line, text, utc
from edge.sparkplug.device import milliseconds
from edge.sparkplug.settings import StationsConfig

_RECONNECT_MAX_S = 10
_NOTICE_MAX_BYTES = 4096
_PATH = text(r"[A-Za-z0-9_.\-]{1,64}(/[A-Za-z0-9_.\-]{1,64}){3}", "four levels of a topic")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hand:
    """A verdict; the broker of the stations keeps it until `taken` is set."""

    verdict: Verdict
    taken: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class StationStatus:
    """Whether a station says that it is there; `station` is its path."""

    station: str
    is_online: bool


@dataclass(frozen=True, slots=True)
class StationState:
    """A station's state and why."""

    station: str
    name: str
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class StationsLost:
    """No station can be heard: the connection to their broker is gone."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Verdicts will not come any more."""

    error: Exception


SourceEvent = Hand | StationStatus | StationState | StationsLost | Missing | Failed


class VerdictSource:
    """Hands verdicts over one by one, in a thread, each acknowledged when it was taken and not before.

    They come the moment they arrive, since a verdict that waited behind a gap would be acknowledged while it waits.
    """

    def __init__(self, config: StationsConfig, tell: Callable[[SourceEvent], None]) -> None:
        """Prepare; `start` connects.

        Raises:
            ConfigError: certificates or the password cannot be read.
        """
        broker = Broker(
            config.host,
            config.client_id,
            config.port,
            username=config.username,
            password=config.password(),
            tls=config.tls_context(),
            keepalive_s=config.keepalive_s,
        )
        self._tell = tell
        self._stopping = threading.Event()
        self._consumer = Consumer(
            broker,
            config.filter,
            prefix=config.prefix,
            ordering=Ordering(hold=False),
            on_missing=tell,
            on_bad=_warn,
            on_notice=lambda text: _log.info("stations: %s", text),
        )
        self._thread = threading.Thread(target=self._run, name="verdicts", daemon=True)

    def start(self) -> None:
        """Connect, now or later."""
        self._thread.start()

    def stop(self) -> None:
        """End; a verdict that was not taken comes again at the next start."""
        self._stopping.set()
        self._consumer.stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._consumer as consumer:
                for verdict in consumer:
                    hand = Hand(verdict)
                    self._tell(hand)
                    while not hand.taken.wait(0.1):
                        if self._stopping.is_set():
                            return
        except Exception as error:  # noqa: BLE001 - raised again in the bridge's thread
            self._tell(Failed(error))


class StationWatch:
    """Listens to what stations keep retained about themselves."""

    def __init__(self, config: StationsConfig, tell: Callable[[SourceEvent], None]) -> None:
        """Prepare; `start` connects.

        Raises:
            ConfigError: certificates or the password cannot be read.
        """
        self._root = f"{config.prefix}/v1/"
        self._topics = [(f"{self._root}{config.filter}/{kind}", 1) for kind in ("status", "state")]
        self._tell = tell
        client = Client(CallbackAPIVersion.VERSION2, clean_session=True)
        client.reconnect_delay_set(1, _RECONNECT_MAX_S)
        if config.username is not None:
            client.username_pw_set(config.username, config.password())
        if (context := config.tls_context()) is not None:
            client.tls_set_context(context)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.connect_async(config.host, config.port, config.keepalive_s)
        self._client = client

    def start(self) -> None:
        """Connect, now or later."""
        self._client.loop_start()

    def stop(self) -> None:
        """End."""
        self._client.on_disconnect = None
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if not reason.is_failure:
            client.subscribe(self._topics)

    def _on_disconnect(
        self, _client: Client, _data: object, _flags: DisconnectFlags, _reason: ReasonCode, _properties: object
    ) -> None:
        self._tell(StationsLost())

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        try:
            station, _, kind = message.topic.removeprefix(self._root).rpartition("/")
            self._tell(_notice(_PATH(station, "station"), kind, bytes(message.payload)))
        except (MessageError, UnicodeDecodeError) as error:
            _log.warning("unreadable notice of a station: %s", error)


def _notice(station: str, kind: str, payload: bytes) -> StationStatus | StationState:
    try:
        found = Fields(json.loads(payload[: _NOTICE_MAX_BYTES + 1]), "")
    except (ValueError, RecursionError) as error:
        raise MessageError(f"{kind} of {station} is not JSON") from error
    if kind == "status":
        return StationStatus(station, found.take("status", line(32)) == "online")
    at_ms = milliseconds(found.take("ts", utc))
    return StationState(station, found.take("state", line(64)), found.take("reason", line(160)), at_ms)


def _warn(bad: BadMessage) -> None:
    _log.warning("unreadable message on '%s': %s", bad.source, bad.problem)
