"""A station as a Sparkplug device: its metrics, their current values, and which of a verdict's are historical."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from edge.consumer import Verdict
from edge.sparkplug.payload import DataType, Metric, Value

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_KINDS = ("OK", "NG", "INVALID", "TIMEOUT")

_OF_VERDICT: dict[str, tuple[DataType, Callable[[Verdict], Value | None]]] = {
    "Result/Verdict": (DataType.STRING, lambda verdict: verdict.verdict),
    "Result/Is OK": (DataType.BOOLEAN, lambda verdict: verdict.verdict == "OK"),
    "Result/Is Defective": (DataType.BOOLEAN, lambda verdict: verdict.verdict == "NG"),
    "Result/Reason": (DataType.STRING, lambda verdict: verdict.reason),
    "Result/Score": (DataType.DOUBLE, lambda verdict: None if verdict.score is None else verdict.score.image),
    "Result/Threshold": (DataType.DOUBLE, lambda verdict: None if verdict.score is None else verdict.score.threshold),
    "Result/Defects": (DataType.UINT64, lambda verdict: verdict.defects_total),
    "Result/Latency ms": (DataType.DOUBLE, lambda verdict: verdict.timing_ms.total),
    "Result/Part ID": (DataType.STRING, lambda verdict: verdict.part.part_id),
    "Result/Result ID": (DataType.STRING, lambda verdict: verdict.result_id),
    "Result/Boot ID": (DataType.STRING, lambda verdict: verdict.boot_id),
    "Result/Sequence": (DataType.UINT64, lambda verdict: verdict.seq),
    "Result/Is Simulated": (DataType.BOOLEAN, lambda verdict: verdict.is_simulated),
    "Model/Name": (DataType.STRING, lambda verdict: verdict.model.name),
    "Model/Version": (DataType.STRING, lambda verdict: verdict.model.version),
}
_COUNTERS = {kind: f"Counters/{kind}" for kind in _KINDS}
_STATE, _STATE_REASON = "State/Name", "State/Reason"
DATATYPES: dict[str, DataType] = {
    **{name: datatype for name, (datatype, _) in _OF_VERDICT.items()},
    **dict.fromkeys(_COUNTERS.values(), DataType.UINT64),
    _STATE: DataType.STRING,
    _STATE_REASON: DataType.STRING,
}
_OFFSETS = {name: offset for offset, name in enumerate(DATATYPES)}


class Device:
    """What the bridge knows of one station.

    Attributes:
        device_id: in Sparkplug.
        is_alive: it can be heard.
        has_ended: its last word was that it is offline or stopped.
        is_born: its birth certificate was sent in this Sparkplug session, and no death certificate after it.
    """

    def __init__(self, device_id: str, first_alias: int) -> None:
        """A station not heard yet.

        Args:
            device_id: in Sparkplug.
            first_alias: of its `len(DATATYPES)` aliases.
        """
        self.device_id = device_id
        self.is_alive = self.has_ended = self.is_born = False
        self._first_alias = first_alias
        self._newest_ms = 0
        self._current: dict[str, tuple[int, Value | None]] = {}
        self._counts = dict.fromkeys(_KINDS, 0)

    def birth(self, now_ms: int) -> tuple[Metric, ...]:
        """Every metric with its current value, in the order of their times; null for what is not known yet."""
        metrics = []
        for name, datatype in DATATYPES.items():
            at_ms, value = self._current.get(name, (now_ms, 0 if name in _COUNTERS.values() else None))
            metrics.append(Metric(name, self._first_alias + _OFFSETS[name], datatype, at_ms, value))
        return tuple(sorted(metrics, key=lambda metric: metric.timestamp_ms or 0))

    def record(self, verdict: Verdict, now_ms: int) -> None:
        """Count a verdict, once; the newest by its own time becomes current."""
        self._counts[verdict.verdict] += 1
        self._current |= {_COUNTERS[kind]: (now_ms, count) for kind, count in self._counts.items()}
        at_ms = milliseconds(verdict.ts)
        if at_ms >= self._newest_ms:
            self._newest_ms = at_ms
            self._current |= {name: (at_ms, value(verdict)) for name, (_, value) in _OF_VERDICT.items()}

    def report(self, verdict: Verdict, now_ms: int, late_after_ms: float) -> tuple[Metric, ...]:
        """A verdict that was recorded, at its own time, and the counters.

        It is historical when it answers a request for a replay, is older than one that was recorded before, or than
        `late_after_ms`.
        """
        at_ms = milliseconds(verdict.ts)
        is_late = verdict.historical or at_ms < self._newest_ms or now_ms - at_ms > late_after_ms
        counted_ms = now_ms if is_late else at_ms
        return (
            *(self._data(name, at_ms, value(verdict), is_late) for name, (_, value) in _OF_VERDICT.items()),
            *(self._data(name, counted_ms, self._counts[kind]) for kind, name in _COUNTERS.items()),
        )

    def set_state(self, name: str, reason: str, at_ms: int) -> tuple[Metric, ...]:
        """The station's state changed."""
        values = {_STATE: name, _STATE_REASON: reason}
        self._current |= {key: (at_ms, value) for key, value in values.items()}
        return tuple(self._data(key, at_ms, value) for key, value in values.items())

    def _data(self, name: str, at_ms: int, value: Value | None, is_historical: bool = False) -> Metric:
        return Metric(None, self._first_alias + _OFFSETS[name], None, at_ms, value, is_historical)


def milliseconds(moment: datetime) -> int:
    """Since 1970, as Sparkplug has it; 0 for a clock that was never set."""
    return max(0, (moment - _EPOCH) // timedelta(milliseconds=1))
