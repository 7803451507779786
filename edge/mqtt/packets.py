"""What goes over a link beside payloads: the Last Will, receipts, what arrives, and the properties of MQTT 5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.notices import SCHEMA_URIS

_EXPIRY_S = 7 * 24 * 3600
_HEADER_BYTES = 9  # command, remaining length, topic length, packet id


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when it misses the station."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """The broker's answer to one message; `refusal` is empty when it took it."""

    mid: int
    refusal: str


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message for the station.

    Attributes:
        topic: where it was published.
        payload: its content; None when it is larger than the subscriber takes.
        is_retained: the broker had kept it, so it may be of any age.
    """

    topic: str
    payload: bytes | None
    is_retained: bool


Receiver = Callable[[Incoming], None]


class PublishProperties:
    """What MQTT 5 says about a message, by its kind; nothing with 3.1.1."""

    def __init__(self, *, is_v5: bool) -> None:
        self._by_kind = {kind: _properties_of(kind) for kind in (*SCHEMA_URIS, "mask")} if is_v5 else {}
        self._bytes = {kind: len(packed.pack()) for kind, packed in self._by_kind.items()}  # type: ignore[no-untyped-call]

    def of(self, kind: str) -> Properties | None:
        """The properties of a message."""
        return self._by_kind.get(kind)

    def packet_bytes(self, topic: str, payload: bytes, kind: str) -> int:
        """At most so large is the packet."""
        return _HEADER_BYTES + len(topic.encode()) + self._bytes.get(kind, 0) + len(payload)


def _properties_of(kind: str) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if kind == "mask":
        properties.ContentType = "application/octet-stream"
    else:
        properties.ContentType = "application/json"
        properties.UserProperty = ("schema", SCHEMA_URIS[kind])
    if kind in ("verdict", "plc", "mask", "event"):
        properties.MessageExpiryInterval = _EXPIRY_S
    return properties
