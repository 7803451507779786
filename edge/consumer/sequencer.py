"""Verdicts of many stations and boots: repetitions dropped, each boot in its order, gaps asked for. Bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from edge.consumer.order import Boot, Ordering, Output, Position
from edge.consumer.verdict import Verdict

RESULT_IDS_KEPT = 100_000
_BOOTS_KEPT = 256


class Sequencer:
    """Follows every boot for itself: the backlog of an earlier one may come while a later one's verdicts are live."""

    def __init__(self, ordering: Ordering, resume: Iterable[Position] = (), *, from_start: bool = False) -> None:
        """Start.

        Args:
            ordering: how long to wait for what is missing.
            resume: where an earlier run of the program ended.
            from_start: the first boot heard of is wanted from its first verdict, not from the first one that comes.
        """
        self._ordering = ordering
        self._from_start = from_start
        self._boots: OrderedDict[tuple[str, str], Boot] = OrderedDict()
        self._result_ids: OrderedDict[str, None] = OrderedDict()
        self.repeated = 0
        self.foreign = 0
        for position in resume:
            self._boots[position.station, position.boot_id] = Boot(position, ordering)

    @property
    def waiting(self) -> int:
        """Verdicts that wait behind a gap."""
        return sum(boot.waiting for boot in list(self._boots.values()))

    def accept(self, verdict: Verdict, now_s: float) -> list[Output]:
        """What one verdict leads to, in this order.

        Args:
            verdict: as it arrived.
            now_s: monotonic.
        """
        if verdict.result_id in self._result_ids:
            self.repeated += 1
            return []
        outputs: list[Output] = []
        key = verdict.station.path, verdict.boot_id
        boot = self._boots.get(key)
        if boot is None and not verdict.historical:
            boot = self._boots[key] = self._new_boot(verdict)
            if len(self._boots) > _BOOTS_KEPT:
                outputs += self._boots.popitem(last=False)[1].give_up()
        if boot is None or not boot.wants(verdict):
            self.foreign += 1
            return []
        self._boots.move_to_end(key)
        accepted = boot.accept(verdict, now_s)
        if accepted is None:
            self.repeated += 1
            return outputs
        self._result_ids[verdict.result_id] = None
        if len(self._result_ids) > RESULT_IDS_KEPT:
            self._result_ids.popitem(last=False)
        return outputs + accepted

    def wait(self, now_s: float) -> list[Output]:
        """What follows from nothing having come: requests for a replay, or the end of waiting."""
        return [output for boot in self._boots.values() for output in boot.wait(now_s)]

    def give_up(self) -> list[Output]:
        """Everything that is held; the gaps between are missing."""
        return [output for boot in self._boots.values() for output in boot.give_up()]

    def _new_boot(self, verdict: Verdict) -> Boot:
        """A boot that began after one heard of is promised whole; one that is met midway, from there on.

        What was before the meeting point is taken when it comes, as it does from a station that delivers its backlog
        behind live verdicts.
        """
        station = verdict.station.path
        known = [boot_id for name, boot_id in self._boots if name == station]
        is_promised = verdict.boot_id > max(known) if known else self._from_start
        start = 0 if is_promised else verdict.seq
        before = ((0, start - 1),) if start else ()
        return Boot(Position(station, verdict.boot_id, start, before), self._ordering, foreign_before=start)
