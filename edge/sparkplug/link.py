"""One connection to the Sparkplug broker. What happens on it is put into a queue; a lost link is thrown away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.errors import DeliveryError
from edge.sparkplug.node import Publication
from edge.sparkplug.settings import SparkplugConfig

_CONNECT_TIMEOUT_S = 5.0
_FAREWELL_S = 2.0
_INCOMING_MAX_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Opened:
    """The broker has accepted the link and its subscriptions; `refused` names those it did not."""

    link: Link
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """The link is no more."""

    link: Link
    problem: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The broker has read everything that was published before this question."""

    link: Link
    question: int


@dataclass(frozen=True, slots=True)
class Received:
    """A command, or the state of the host application."""

    link: Link
    topic: str
    payload: bytes
    is_retained: bool


LinkEvent = Opened | Lost | Answered | Received


class Link:
    """A client whose session ends with the connection, as Sparkplug wants it; its Will is a death certificate."""

    def __init__(
        self, config: SparkplugConfig, will: Publication, topics: tuple[str, ...], tell: Callable[[LinkEvent], None]
    ) -> None:
        """Send CONNECT; Opened or Lost follows.

        Args:
            config: broker and names.
            will: the death certificate.
            topics: to subscribe to, with QoS 1.
            tell: called with everything that happens, by the link's thread.

        Raises:
            ConnectionError: nobody answers, so that no CONNECT was sent.
            ConfigError: certificates or the password cannot be read any more.
        """
        self._topics = topics
        self._tell = tell
        self._why = ""
        # Nobody subscribes to it. Brokers answer an UNSUBSCRIBE all the same, after what was published before.
        self._nowhere = f"{will.topic}/nowhere"
        client = Client(
            CallbackAPIVersion.VERSION2,
            f"{config.group_id}/{config.edge_node_id}",
            clean_session=True,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_TIMEOUT_S
        if config.username is not None:
            client.username_pw_set(config.username, config.password())
        if (context := config.tls_context()) is not None:
            client.tls_set_context(context)
        # Otherwise the question would wait for the broker's system to confirm the data before it, some 40 ms.
        client.on_socket_open = _send_at_once
        client.will_set(will.topic, will.payload, qos=1, retain=False)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_unsubscribe = self._on_unsubscribe
        client.on_disconnect = self._on_disconnect
        self._client = client
        address = f"{config.host}:{config.port}"
        try:
            client.connect(config.host, config.port, config.keepalive_s)
        except (OSError, ValueError) as error:
            raise ConnectionError(f"no connection to {address} ({error})") from error
        client.loop_start()

    def publish(self, publication: Publication) -> None:
        """With QoS 0, not retained, in the order of the calls.

        Raises:
            DeliveryError: the connection is lost; so does `ask`.
        """
        info = self._client.publish(publication.topic, publication.payload)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise DeliveryError(f"'{publication.topic}' was not sent ({info.rc.name})")

    def ask(self) -> int:
        """Have the broker answer after it has read what was published so far; the number is in Answered."""
        code, number = self._client.unsubscribe(self._nowhere)
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or number is None:
            raise DeliveryError(f"the broker cannot be asked ({code.name})")
        return number

    def close(self, death: Publication | None) -> None:
        """Say goodbye, with a death certificate when there was a birth; DISCONNECT follows it at once."""
        self._client.on_disconnect = None
        if death is not None:
            info = self._client.publish(death.topic, death.payload, qos=1)
            if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                info.wait_for_publish(_FAREWELL_S)
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._why = f"refused: {reason.getName()}"
            return
        client.subscribe([(topic, 1) for topic in self._topics])

    def _on_subscribe(
        self, _client: Client, _data: object, _mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        refused = [topic for topic, reason in zip(self._topics, reasons, strict=False) if reason.is_failure]
        self._tell(Opened(self, tuple(refused)))

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        if len(message.payload) <= _INCOMING_MAX_BYTES:
            self._tell(Received(self, message.topic, bytes(message.payload), message.retain))

    def _on_unsubscribe(
        self, _client: Client, _data: object, mid: int, _reasons: list[ReasonCode], _properties: object
    ) -> None:
        self._tell(Answered(self, mid))

    def _on_disconnect(
        self, _client: Client, _data: object, _flags: DisconnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        self._tell(Lost(self, self._why or reason.getName()))


def _send_at_once(_client: Client, _data: object, connection: Any) -> None:
    connection.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
