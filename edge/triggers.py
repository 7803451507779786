"""Which triggers still wait for their one verdict, and when the next one is due."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge.config import TriggerConfig


@dataclass(frozen=True, slots=True)
class Trigger:
    """One demand for a verdict. Times from `time.monotonic_ns()` and `time.time_ns()`."""

    trigger_id: int
    fired_monotonic_ns: int
    fired_utc_ns: int
    deadline_monotonic_ns: int


class TriggerLedger:
    """Open triggers in the order they were fired. A trigger leaves it exactly once, with its verdict."""

    def __init__(self, deadline_ms: float, remember: Callable[[Trigger], None] = lambda _: None) -> None:
        """No trigger is open.

        Args:
            deadline_ms: from a trigger to its verdict.
            remember: told of each trigger, before anything else is done about it.
        """
        self._remember = remember
        self._deadline_ns = round(deadline_ms * 1e6)
        self._open: dict[int, Trigger] = {}
        self._next_id = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(self, now_monotonic_ns: int, now_utc_ns: int) -> Trigger:
        """A new trigger; ids count up from 0."""
        trigger = Trigger(self._next_id, now_monotonic_ns, now_utc_ns, now_monotonic_ns + self._deadline_ns)
        self._remember(trigger)
        self._open[trigger.trigger_id] = trigger
        self._next_id += 1
        return trigger

    def find(self, trigger_id: int) -> Trigger | None:
        """The trigger if it still waits for its verdict."""
        return self._open.get(trigger_id)

    def close(self, trigger: Trigger) -> None:
        """The trigger has its verdict.

        Raises:
            KeyError: it had one before; a program error that would make two verdicts of one trigger.
        """
        del self._open[trigger.trigger_id]

    def overdue(self, now_monotonic_ns: int) -> list[Trigger]:
        """Open triggers whose deadline has come, oldest first."""
        return [trigger for trigger in self._open.values() if trigger.deadline_monotonic_ns <= now_monotonic_ns]

    def until_deadline_s(self, now_monotonic_ns: int, at_most_s: float) -> float:
        """Seconds until the next deadline, between 0 and `at_most_s`."""
        for trigger in self._open.values():
            return min(max(0.0, (trigger.deadline_monotonic_ns - now_monotonic_ns) / 1e9), at_most_s)
        return at_most_s


class TriggerPacer:
    """When the station fires a software trigger: every interval, or as soon as there is room.

    Beats that were missed are skipped and not made up for, so that a pause is not followed by a burst.
    """

    def __init__(self, config: TriggerConfig, room: int, limit: int | None) -> None:
        """Set up.

        Args:
            config: mode and interval; other modes than `software` never fire.
            room: triggers that may be open at a time when there is no interval.
            limit: fire this many and no more; None for no end.
        """
        self._interval_ns = round(config.interval_ms * 1e6)
        self._room = room
        self._left = limit if config.mode == "software" else 0
        self._next_ns: int | None = None

    @property
    def exhausted(self) -> bool:
        """Whether it will never fire again."""
        return self._left == 0

    def fire(self, now_monotonic_ns: int, open_triggers: int) -> bool:
        """Whether to fire now; counts and schedules the next beat if so."""
        if self._left == 0 or not self._is_due(now_monotonic_ns, open_triggers):
            return False
        if self._left is not None:
            self._left -= 1
        if self._interval_ns:
            planned_ns = now_monotonic_ns if self._next_ns is None else self._next_ns
            missed = (now_monotonic_ns - planned_ns) // self._interval_ns
            self._next_ns = planned_ns + (missed + 1) * self._interval_ns
        return True

    def until_due_s(self, now_monotonic_ns: int, at_most_s: float) -> float:
        """Seconds until the next beat, between 0 and `at_most_s`."""
        if self._left == 0 or self._next_ns is None:
            return at_most_s
        return min(max(0.0, (self._next_ns - now_monotonic_ns) / 1e9), at_most_s)

    def _is_due(self, now_monotonic_ns: int, open_triggers: int) -> bool:
        if not self._interval_ns:
            return open_triggers < self._room
        return self._next_ns is None or now_monotonic_ns >= self._next_ns
