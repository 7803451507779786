"""One boot's verdicts in their order, each once, whatever the network made of them. No clock, no network.

Times are monotonic seconds that the caller passes in.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from edge.consumer.verdict import Verdict

_ABSENT_SPANS_KEPT = 1000
# A station refuses longer requests, and has no room for many.
REQUEST_MAX_VERDICTS = 10_000
REQUESTS_AT_ONCE = 8

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Ordering:
    """How long to wait for what is missing.

    Attributes:
        hold: wait with what comes behind a gap until the gap is closed or given up; otherwise hand over at once.
        window: verdicts of one boot that may be ahead of a gap; with one more, the oldest gap is given up.
        patience_s: without any progress for so long, the station is asked for a replay, and asked again.
        requests: so many times before the gap is given up.
    """

    hold: bool = True
    window: int = 10_000
    patience_s: float = 2.0
    requests: int = 3


@dataclass(frozen=True, slots=True)
class Missing:
    """Verdicts given up: `from_seq` to `to_seq` of one boot, both included. `station` is its path."""

    station: str
    boot_id: str
    from_seq: int
    to_seq: int


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """Verdicts to ask the station for: `from_seq` to `to_seq` of one boot, both included."""

    station: str
    boot_id: str
    from_seq: int
    to_seq: int


@dataclass(frozen=True, slots=True)
class Position:
    """From where on the verdicts of one boot are wanted.

    Attributes:
        station: its path, `site/area/line/station`.
        boot_id: of the station.
        next_seq: of what comes before it, only `missing` is wanted.
        missing: first and last sequence number of ranges that are not waited for, but taken should they come.
    """

    station: str
    boot_id: str
    next_seq: int
    missing: tuple[Span, ...] = ()


def positions_after(handled: Iterable[tuple[str, str, int]]) -> list[Position]:
    """Where to resume, from what an earlier run has kept: station's path, boot_id and seq of each verdict."""
    kept: dict[tuple[str, str], list[int]] = {}
    for station, boot_id, seq in handled:
        kept.setdefault((station, boot_id), []).append(seq)
    positions = []
    for (station, boot_id), seqs in kept.items():
        due = 0
        missing = []
        for seq in sorted(set(seqs)):
            if seq > due:
                missing.append((due, seq - 1))
            due = seq + 1
        positions.append(Position(station, boot_id, due, tuple(missing)))
    return positions


Output = Verdict | Missing | ReplayRequest


class Spans:
    """A set of whole numbers as ranges; only the newest 1000 are kept."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._spans = sorted(spans)

    def append(self, first: int, last: int) -> None:
        """Add a range behind all others."""
        self._spans.append((first, last))
        del self._spans[:-_ABSENT_SPANS_KEPT]

    def discard(self, number: int) -> bool:
        """Take one number out; whether it was in."""
        at = bisect_right(self._spans, number, key=lambda span: span[0]) - 1
        if at < 0 or number > self._spans[at][1]:
            return False
        first, last = self._spans[at]
        self._spans[at : at + 1] = [(a, b) for a, b in ((first, number - 1), (number + 1, last)) if a <= b]
        return True


class Boot:
    """The verdicts of one boot: what is due next, what came early, what never came."""

    def __init__(self, position: Position, ordering: Ordering, *, foreign_before: int = 0) -> None:
        """Go on at a position.

        Args:
            position: what is due next.
            ordering: how long to wait.
            foreign_before: verdicts before it were never promised to this receiver; replays of them are others'.
        """
        self._station, self._boot_id = position.station, position.boot_id
        self._next = position.next_seq
        self._absent = Spans(position.missing)
        self._ordering = ordering
        self._foreign_before = foreign_before
        self._early: dict[int, Verdict | None] = {}
        self._newest = self._next - 1
        self._progress_s = 0.0
        self._asked = 0
        self._asked_up_to = 0

    @property
    def waiting(self) -> int:
        """Verdicts that wait behind a gap."""
        return len(self._early) if self._ordering.hold else 0

    def wants(self, verdict: Verdict) -> bool:
        """False for a replay that somebody else asked for."""
        return not verdict.historical or verdict.seq >= self._foreign_before

    def accept(self, verdict: Verdict, now_s: float) -> list[Output] | None:
        """What is to be handed over now, in order; None for a repetition."""
        seq = verdict.seq
        if seq < self._next:
            return [verdict] if self._absent.discard(seq) else None
        if seq in self._early:
            return None
        if not self._early or seq < self._newest:
            self._progress_s, self._asked = now_s, 0
        self._newest = max(self._newest, seq)
        self._early[seq] = verdict if self._ordering.hold else None
        ready: list[Output] = [] if self._ordering.hold else [verdict]
        ready += self._release()
        if len(self._early) > self._ordering.window:
            ready += self._give_up(min(self._early))
        return ready

    def wait(self, now_s: float) -> list[Output]:
        """What follows from nothing having come: requests for a replay, or the end of waiting."""
        if not self._early or now_s - self._progress_s < self._ordering.patience_s:
            return []
        self._progress_s = now_s
        if self._asked == self._ordering.requests:
            self._asked = 0
            return self._give_up(self._asked_up_to)
        spans = _askable(self._holes(self._asked_up_to if self._asked else self._newest))
        self._asked_up_to = spans[-1][1] + 1
        self._asked += 1
        return [ReplayRequest(self._station, self._boot_id, first, last) for first, last in spans]

    def give_up(self) -> list[Output]:
        """Everything that is held; the gaps between are missing."""
        return self._give_up(self._newest)

    def _holes(self, up_to: int) -> list[Span]:
        holes = []
        due = self._next
        for seq in sorted(self._early):
            if seq > up_to:
                break
            if seq > due:
                holes.append((due, seq - 1))
            due = seq + 1
        return holes

    def _give_up(self, up_to: int) -> list[Output]:
        given_up: list[Output] = []
        for first, last in self._holes(up_to):
            self._absent.append(first, last)
            given_up.append(Missing(self._station, self._boot_id, first, last))
            self._next = last + 1
            given_up += self._release()
        return given_up

    def _release(self) -> list[Output]:
        released: list[Output] = []
        while self._next in self._early:
            verdict = self._early.pop(self._next)
            self._next += 1
            if verdict is not None:
                released.append(verdict)
        return released


def _askable(holes: list[Span]) -> list[Span]:
    """Of a long hole its end, since the station keeps the newest; of many holes all together, from the first on."""
    spans = [(max(first, last - REQUEST_MAX_VERDICTS + 1), last) for first, last in holes]
    if len(spans) <= REQUESTS_AT_ONCE:
        return spans
    first = spans[0][0]
    return [(first, max(last for _, last in spans if last - first < REQUEST_MAX_VERDICTS))]
