"""Says so when the outbox loses messages or its file was damaged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from edge.events import OutboxSalvaged, Record
from edge.outbox import Outbox
from edge.outbox.salvage import Salvage

_INTERVAL_S = 1.0
_OVERFLOW = "outbox_overflow"
_DAMAGED = "outbox_damaged"

_log = logging.getLogger(__name__)


class OutboxWatch:
    """Raises and clears the outbox's alarms; belongs to the thread that delivers."""

    def __init__(self, outbox: Outbox, set_alarm: Callable[[str, str | None], None], record: Record) -> None:
        """Set up.

        Args:
            outbox: what is watched.
            set_alarm: takes an alarm's code and the reason; None clears it.
            record: told of each damage.
        """
        self._outbox = outbox
        self._set_alarm = set_alarm
        self._record = record
        self._told_drops = outbox.dropped
        self._told_damage: Salvage | None = None
        self._alarm_at_s = 0.0

    def clear(self) -> None:
        """The broker may have kept an earlier boot's alarms."""
        for code in (_OVERFLOW, _DAMAGED):
            self._set_alarm(code, None)

    def look(self) -> None:
        """Tell what is new; to be called often.

        Raises:
            OutboxError: the outbox cannot be read.
        """
        self._look_for_damage()
        self._look_for_drops()

    def _look_for_drops(self) -> None:
        dropped = self._outbox.dropped
        now_s = time.monotonic()
        if dropped > self._told_drops and now_s >= self._alarm_at_s:
            self._told_drops = dropped
            self._alarm_at_s = now_s + _INTERVAL_S
            newest = self._outbox.gaps()[-1]
            self._set_alarm(
                _OVERFLOW,
                f"{dropped} messages dropped undelivered; newest: {newest.kind} {newest.from_seq} to {newest.to_seq}"
                f" of boot {newest.boot_id}",
            )
        elif self._alarm_at_s and self._outbox.count() == 0:
            self._alarm_at_s = 0.0
            self._set_alarm(_OVERFLOW, None)

    def _look_for_damage(self) -> None:
        damage = self._outbox.salvage
        if damage is not self._told_damage and damage is not None:
            self._told_damage = damage
            self._set_alarm(_DAMAGED, str(damage))
            self._record(OutboxSalvaged(problem=damage.problem, saved=damage.saved, missing=damage.lost))
            _log.error("outbox: %s", damage)
