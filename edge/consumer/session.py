"""The connection to the broker: a session that the broker keeps, so that it queues what comes while nobody listens.

A thread moves the bytes; everything that it learns goes through one queue to the thread that consumes.
"""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Literal

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

_RECONNECT_MAX_S = 30
_QOS_0_QUEUED_MAX = 10_000
_JOIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Broker:
    """Where to connect.

    Attributes:
        client_id: names the session at the broker: one per receiver, the same at every start.
        tls: for example `ssl.create_default_context(cafile=…)`, with `load_cert_chain` for a client certificate; None
            for a connection in clear.
        session_expiry_s: for so long the broker keeps the session of an absent receiver (MQTT 5; with 3.1.1 it is the
            broker that decides).
    """

    host: str
    client_id: str
    port: int = 1883
    protocol: Literal["3.1.1", "5"] = "3.1.1"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    keepalive_s: int = 30
    session_expiry_s: int = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message, its packet id, and on which connection it came."""

    topic: str
    payload: bytes
    qos: int
    mid: int
    connection: int


@dataclass(frozen=True, slots=True)
class Notice:
    """What a person may want to know about the connection."""

    text: str


@dataclass(frozen=True, slots=True)
class Fault:
    """What ended the connection's thread: nothing will come any more."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing more is wanted."""


News = Arrival | Notice | Fault | Stop


class Session:
    """A connection that is made again whenever it is lost."""

    def __init__(self, broker: Broker, topics: tuple[str, ...]) -> None:
        """Prepare; `open` connects.

        Args:
            broker: where to connect.
            topics: to subscribe to, with QoS 1.
        """
        self._broker = broker
        self._topics = topics
        self._news: SimpleQueue[News] = SimpleQueue()
        self._connection = 0
        self._kept = False
        self._client = self._new_client()
        self._thread = threading.Thread(target=self._run, name="consumer", daemon=True)

    def open(self) -> None:
        """Connect in the background, for as long as it takes."""
        self._thread.start()

    def close(self) -> None:
        """Say goodbye; the broker keeps the session."""
        self._client.disconnect()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def next(self, timeout_s: float) -> News | None:
        """What came next; None when nothing did."""
        try:
            return self._news.get(timeout=timeout_s)
        except Empty:
            return None

    def stop(self) -> None:
        """Have `next` return Stop; from any thread or a signal handler."""
        self._news.put(Stop())

    def acknowledge(self, arrival: Arrival) -> None:
        """Let the broker forget a message. One of an earlier connection comes again instead."""
        if arrival.connection == self._connection:
            self._client.ack(arrival.mid, arrival.qos)

    def send(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 1, now or once the connection is back."""
        self._client.publish(topic, payload, qos=1)

    def _new_client(self) -> Client:
        broker = self._broker
        is_v5 = broker.protocol == "5"
        client = Client(
            CallbackAPIVersion.VERSION2,
            broker.client_id,
            clean_session=None if is_v5 else False,
            protocol=MQTTProtocolVersion.MQTTv5 if is_v5 else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        client.reconnect_delay_set(1, _RECONNECT_MAX_S)
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.tls is not None:
            client.tls_set_context(broker.tls)
        client.on_connect = self._on_connect
        client.on_connect_fail = lambda *_: self._tell(f"no connection to {broker.host}:{broker.port}")
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        if is_v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = broker.session_expiry_s
            client.connect_async(broker.host, broker.port, broker.keepalive_s, clean_start=False, properties=properties)
        else:
            client.connect_async(broker.host, broker.port, broker.keepalive_s)
        return client

    def _run(self) -> None:
        try:
            self._client.loop_forever(retry_first_connection=True)
        except Exception as error:  # noqa: BLE001 - raised again in the consuming thread
            self._news.put(Fault(error))

    def _tell(self, text: str) -> None:
        self._news.put(Notice(text))

    def _on_connect(
        self, client: Client, _data: object, flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._tell(f"the broker refuses the connection: {reason.getName()}")
            return
        self._connection += 1
        self._kept = flags.session_present
        code, _ = client.subscribe([(topic, 1) for topic in self._topics])
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._tell(f"not subscribed: {code.name}")

    def _on_disconnect(
        self, _client: Client, _data: object, _flags: DisconnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.is_failure:
            self._tell(f"the connection is lost: {reason.getName()}")

    def _on_subscribe(
        self, _client: Client, _data: object, _mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        refused = [topic for topic, reason in zip(self._topics, reasons, strict=False) if reason.is_failure]
        if refused:
            self._tell(f"the broker refuses the subscription to {', '.join(refused)}")
        else:
            self._tell("connected" if self._kept else "connected; the broker has kept nothing for this client id")

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        """Queue it. With QoS 1, 16-bit packet ids bound how many can wait for their acknowledgement."""
        if message.qos or self._news.qsize() < _QOS_0_QUEUED_MAX:
            arrival = Arrival(_topic_of(message), bytes(message.payload), message.qos, message.mid, self._connection)
            self._news.put(arrival)


def _topic_of(message: MQTTMessage) -> str:
    try:
        return message.topic
    except UnicodeDecodeError:  # a broker should not have passed it on
        return ""
