"""Events of the audit trail, each once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from edge.consumer import fields
from edge.consumer.fields import Fields, integer, line
from edge.consumer.parsing import fields_of

KINDS = (
    "bundle_loaded",
    "threshold_changed",
    "golden_test",
    "camera_connected",
    "login",
    "logout",
    "counters_reset",
    "login_refused",
    "command",
    "outbox_salvaged",
)
_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """Something in a station's life besides its verdicts; docs/mqtt.md lists the kinds and their facts.

    Attributes:
        station: its path, `site/area/line/station`.
        boot_id: of the station.
        seq: counts the events of one boot without a gap.
        ts: UTC, to the microsecond.
        count: events of the kind since the one before; with more than 1, this is the last of them.
        kind: one of KINDS.
        facts: as in the message, without `kind`.
    """

    station: str
    boot_id: str
    seq: int
    ts: datetime
    count: int
    kind: str
    facts: Mapping[str, object]


class EventReader:
    """Reads events, and drops repetitions among the last 1000."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str, int], None] = OrderedDict()

    def read(self, station: str, payload: bytes) -> Event | None:
        """The event; None for a repetition, or one of a kind that a later minor version added.

        Args:
            station: path in the message's topic.
            payload: the message.

        Raises:
            MessageError: it breaks the published rules.
        """
        event = parse_event(station, payload)
        key = event.station, event.boot_id, event.seq
        if event.kind not in KINDS or key in self._seen:
            return None
        self._seen[key] = None
        if len(self._seen) > _KEPT:
            self._seen.popitem(last=False)
        return event


def parse_event(station: str, payload: bytes) -> Event:
    """The event in one message, of whatever kind.

    Raises:
        MessageError: it breaks the published rules; no other error, whatever the bytes.
    """
    found = fields_of(payload, "event")
    kind, facts = found.take("event", _fact)
    return Event(
        station=station,
        boot_id=found.take("boot_id", fields.ulid),
        seq=found.take("seq", integer()),
        ts=found.take("ts", fields.utc),
        count=found.take("count", integer(1)),
        kind=kind,
        facts=facts,
    )


def _fact(value: object, path: str) -> tuple[str, dict[str, object]]:
    kind = Fields(value, path).take("kind", line(64))
    assert isinstance(value, dict)
    return kind, {name: fact for name, fact in value.items() if name != "kind"}
