"""The edge node's messages: births, deaths and data, numbered in the order in which they must be published."""

from __future__ import annotations

from dataclasses import dataclass

from edge.sparkplug.device import DATATYPES, Device
from edge.sparkplug.payload import DataType, Metric, Payload, encode

NAMESPACE = "spBv1.0"
REBIRTH = "Node Control/Rebirth"
_BDSEQ, _VERSION, _MISSING = "bdSeq", "Bridge/Version", "Bridge/Verdicts Missing"
_BDSEQ_ALIAS, _VERSION_ALIAS, _MISSING_ALIAS, _FIRST_DEVICE_ALIAS = 1, 2, 3, 10
_NUMBERS = 256


@dataclass(frozen=True, slots=True)
class Publication:
    """What goes to the broker; never retained."""

    topic: str
    payload: bytes


class EdgeNode:
    """Makes messages; whoever calls publishes each at once, so that `seq` counts what was published."""

    def __init__(self, group_id: str, edge_node_id: str, station_filter: str, version: str) -> None:
        """An edge node without devices.

        Args:
            group_id: of the Sparkplug group.
            edge_node_id: unique in the group.
            station_filter: site/area/line/station with `+` for any; what it leaves open names the devices.
            version: of the bridge's software.
        """
        self._group, self._node = group_id, edge_node_id
        self._levels = [number for number, level in enumerate(station_filter.split("/")) if level == "+"] or [3]
        self._version = version
        self._devices: dict[str, Device] = {}
        self._missing = 0
        self._missing_ms = 0
        self._seq = 0

    @property
    def command_topic(self) -> str:
        """Where commands to the edge node come."""
        return self._topic("NCMD")

    @property
    def devices(self) -> tuple[Device, ...]:
        """All stations heard of."""
        return tuple(self._devices.values())

    def device(self, station: str) -> Device:
        """The station with this path, which may be new."""
        device = self._devices.get(station)
        if device is None:
            levels = station.split("/")
            alias = _FIRST_DEVICE_ALIAS + len(self._devices) * len(DATATYPES)
            device = self._devices[station] = Device(":".join(levels[number] for number in self._levels), alias)
        return device

    def birth(self, bdseq: int, now_ms: int) -> Publication:
        """NBIRTH: numbering begins anew, and no device is born."""
        self._seq = 0
        for device in self._devices.values():
            device.is_born = False
        missing_ms = self._missing_ms or now_ms
        return self._numbered(
            "NBIRTH",
            now_ms,
            *sorted(
                (
                    Metric(_MISSING, _MISSING_ALIAS, DataType.UINT64, missing_ms, self._missing),
                    Metric(_BDSEQ, _BDSEQ_ALIAS, DataType.INT64, now_ms, bdseq),
                    # The specification wants this one without an alias.
                    Metric(REBIRTH, None, DataType.BOOLEAN, now_ms, False),
                    Metric(_VERSION, _VERSION_ALIAS, DataType.STRING, now_ms, self._version),
                ),
                key=lambda metric: metric.timestamp_ms or 0,
            ),
        )

    def death(self, bdseq: int, now_ms: int) -> Publication:
        """NDEATH: the Last Will, and the last word of a clean end; without a number."""
        metric = Metric(_BDSEQ, None, DataType.INT64, now_ms, bdseq)
        return Publication(self._topic("NDEATH"), encode(Payload(now_ms, None, (metric,))))

    def count_missing(self, verdicts: int, now_ms: int) -> Publication:
        """NDATA: verdicts that were given up."""
        self._missing += verdicts
        self._missing_ms = now_ms
        return self._numbered("NDATA", now_ms, Metric(None, _MISSING_ALIAS, None, now_ms, self._missing))

    def device_birth(self, device: Device, now_ms: int) -> Publication:
        """DBIRTH."""
        device.is_born = True
        return self._numbered("DBIRTH", now_ms, *device.birth(now_ms), device=device)

    def device_data(self, device: Device, metrics: tuple[Metric, ...], now_ms: int) -> Publication:
        """DDATA."""
        return self._numbered("DDATA", now_ms, *metrics, device=device)

    def device_death(self, device: Device, now_ms: int) -> Publication:
        """DDEATH."""
        device.is_born = False
        return self._numbered("DDEATH", now_ms, device=device)

    def _numbered(self, kind: str, now_ms: int, *metrics: Metric, device: Device | None = None) -> Publication:
        payload = encode(Payload(now_ms, self._seq, metrics))
        self._seq = (self._seq + 1) % _NUMBERS
        return Publication(self._topic(kind, device), payload)

    def _topic(self, kind: str, device: Device | None = None) -> str:
        return "/".join((NAMESPACE, self._group, kind, self._node, *([device.device_id] if device else [])))
