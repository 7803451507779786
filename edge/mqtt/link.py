"""One connection to the broker, driven by the thread that owns it.

A link is opened once and thrown away when it is lost: nothing that paho queues survives it, since what is not yet
acknowledged is still in the outbox.
"""

from __future__ import annotations

import logging
import selectors
import socket
import ssl
import time

from paho.mqtt.client import MQTT_LOG_ERR, Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.config import MqttConfig
from edge.errors import ConfigError, DeliveryError
from edge.mqtt.packets import Incoming, PublishProperties, Receipt, Receiver, Will
from edge.mqtt.tls import tls_context, tls_remedy

_CONNECT_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


class Link:
    """A connected client: CONNACK was good when the constructor returns."""

    def __init__(
        self, config: MqttConfig, password: str | None, client_id: str, will: Will, wake: socket.socket
    ) -> None:
        """Connect, and wait for the broker's consent.

        Args:
            config: broker, protocol, limits.
            password: for `config.username`.
            client_id: one per station; the broker closes an older connection with the same.
            will: the Last Will.
            wake: a byte in it ends `wait` early.

        Raises:
            DeliveryError: nobody answers, or the broker refuses.
        """
        self.receipts: list[Receipt] = []
        self.window = config.max_inflight
        self._max_message_bytes = config.max_message_bytes
        self._max_packet_bytes: int | None = None
        self._address = f"{config.host}:{config.port}"
        self._tls = config.tls
        self._lost = ""
        self._trouble = ""
        self._subscribing: dict[int, str] = {}
        self._accepted = False
        self._v5 = config.protocol == "5"
        self._properties = PublishProperties(is_v5=self._v5)
        self._client = self._new_client(config, password, client_id, will)
        self._selector = selectors.DefaultSelector()
        self._selector.register(wake, selectors.EVENT_READ)
        self._wake = wake
        try:
            self._open(config)
        except BaseException:
            self.close()
            raise

    def send(self, topic: str, payload: bytes, *, qos: int, retain: bool, kind: str) -> int:
        """Hand one message over; its receipt will carry the number returned here.

        Raises:
            DeliveryError: the connection is lost.
        """
        info = self._client.publish(topic, payload, qos, retain, self._properties.of(kind))
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._failure(info.rc.name)
        return info.mid

    def subscribe(self, topic: str, receiver: Receiver, max_bytes: int) -> None:
        """Have messages on `topic` handed to `receiver`, from within `wait`; they are acknowledged after it returns.

        A broker that refuses is a warning: the station publishes all the same.

        Args:
            topic: a filter; wildcards are allowed.
            receiver: must return at once, and must not use the link.
            max_bytes: of a larger payload the receiver gets None.

        Raises:
            DeliveryError: the connection is lost.
        """

        def receive(_client: Client, _data: object, message: MQTTMessage) -> None:
            payload = bytes(message.payload) if len(message.payload) <= max_bytes else None
            receiver(Incoming(message.topic, payload, message.retain))

        self._client.message_callback_add(topic, receive)
        code, mid = self._client.subscribe(topic, qos=1)
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise self._failure(code.name)
        self._subscribing[mid] = topic

    def fits(self, topic: str, payload: bytes, kind: str) -> bool:
        """Whether the configuration's limit on messages and the broker's on packets (MQTT 5) allow it."""
        if len(payload) > self._max_message_bytes:
            return False
        size_bytes = self._properties.packet_bytes(topic, payload, kind)
        return self._max_packet_bytes is None or size_bytes <= self._max_packet_bytes

    def wait(self, timeout_s: float) -> None:
        """Move bytes until something happened, the wake socket was rung, or the time is up.

        Raises:
            DeliveryError: the connection is lost.
        """
        connection = self._client.socket()
        if connection is None:
            raise self._failure("")
        # What TLS has decrypted already makes no socket readable.
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            timeout_s = 0.0
            self._client.loop_read()
        if self._client.socket() is None:
            raise self._failure("")
        interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._client.want_write() else 0)
        if self._selector.get_key(connection).events != interest:
            self._selector.modify(connection, interest)
        for key, events in self._selector.select(timeout_s):
            if key.fileobj is self._wake:
                self._wake.recv(4096)
                continue
            if events & selectors.EVENT_READ:
                self._client.loop_read()
            if events & selectors.EVENT_WRITE:
                self._client.loop_write()
        self._client.loop_misc()
        if self._client.socket() is None:
            raise self._failure("")

    def close(self) -> None:
        """Say goodbye, so that the Last Will is not sent, and close."""
        self._selector.close()
        self._client.disconnect()
        connection = self._client.socket()
        if connection is not None:
            connection.close()

    def _new_client(self, config: MqttConfig, password: str | None, client_id: str, will: Will) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if self._v5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.on_log = self._on_log
        if config.tls is not None:
            try:
                client.tls_set_context(tls_context(config.tls))
            except ConfigError as error:
                raise DeliveryError(error.problem, error.remedy) from error
        client.max_inflight_messages = 0  # the window is the caller's
        if config.username is not None:
            client.username_pw_set(config.username, password)
        client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        return client

    def _open(self, config: MqttConfig) -> None:
        try:
            self._client.connect(config.host, config.port, config.keepalive_s)
        except (OSError, ValueError) as error:
            problem = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
            raise self._failure(problem, error) from error
        connection = self._client.socket()
        if connection is None:
            raise self._failure("closed at once")
        self._selector.register(connection, selectors.EVENT_READ)
        deadline_s = time.monotonic() + _CONNECT_TIMEOUT_S
        while not self._accepted:
            if time.monotonic() > deadline_s:
                raise self._failure(f"no CONNACK within {_CONNECT_TIMEOUT_S:g} s")
            self.wait(0.1)

    def _on_connect(
        self, _client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._lost = f"refused: {reason.getName()}"
            return
        self._accepted = True
        self.window = min(self.window, getattr(properties, "ReceiveMaximum", self.window))
        self._max_packet_bytes = getattr(properties, "MaximumPacketSize", None)

    def _on_disconnect(
        self,
        _client: Client,
        _data: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._lost = self._lost or f"closed by the network or the broker: {reason.getName()}"

    def _on_publish(
        self, _client: Client, _data: object, mid: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        refusal = reason.getName() if reason.is_failure else ""
        self.receipts.append(Receipt(mid, refusal))

    def _on_subscribe(
        self, _client: Client, _data: object, mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        topic = self._subscribing.pop(mid, "")
        if any(reason.is_failure for reason in reasons):
            _log.warning(
                "broker %s does not let the station listen on '%s': check its access rules", self._address, topic
            )

    def _on_log(self, _client: Client, _data: object, level: int, text: str) -> None:
        # Nowhere else does paho say why a connection ended; TLS 1.3 tells of a refused client only after the handshake.
        if level == MQTT_LOG_ERR:
            self._trouble = text

    def _failure(self, problem: str, error: Exception | None = None) -> DeliveryError:
        said = self._lost or problem or "connection lost"
        remedy = "check that it runs, its address, and user name and password"
        if self._tls is not None and not self._accepted and not said.startswith("refused"):
            said, remedy = f"{said} {self._trouble}".rstrip(), tls_remedy(self._tls, error)
        elif self._tls is None and not self._accepted and not said.startswith("refused"):
            remedy += "; a port that speaks TLS needs [mqtt.tls]"
        return DeliveryError(f"broker {self._address}: {said}", f"{remedy}; it is tried again until it answers")
