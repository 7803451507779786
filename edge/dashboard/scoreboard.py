"""What the page knows of the shift: every verdict counted, the newest scores and pictures kept."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import get_args

from edge.messages import Outcome
from edge.observer import Inspection

TREND_LENGTH = 200
NG_KEPT = 24
_SHOWN_KEPT = 16  # pages ask for the picture of what they were told a moment ago


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """One verdict of the trend; score and threshold are None when nothing was computed."""

    seq: int
    outcome: Outcome
    score: float | None
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Reading:
    """The scoreboard at one moment.

    Attributes:
        counts: verdicts since the start or the last `count_anew`, by outcome; every one of them.
        trend: the newest TREND_LENGTH verdicts, oldest first.
        ng: the newest NG_KEPT rejected parts, newest first.
        newest: the newest inspection, None before the first.
        newest_age_s: how long ago it came.
    """

    counts: dict[Outcome, int]
    trend: tuple[TrendPoint, ...]
    ng: tuple[Inspection, ...]
    newest: Inspection | None
    newest_age_s: float | None


class Scoreboard:
    """An observer of the side channel. Nothing is encoded here, and the lock is only held to append or to copy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Outcome, int] = dict.fromkeys(get_args(Outcome), 0)
        self._trend: deque[TrendPoint] = deque(maxlen=TREND_LENGTH)
        self._ng: deque[Inspection] = deque(maxlen=NG_KEPT)
        self._shown: deque[Inspection] = deque(maxlen=_SHOWN_KEPT)
        self._newest: Inspection | None = None
        self._newest_monotonic_s = 0.0

    def put(self, inspection: Inspection) -> None:
        """Count a verdict and keep what the page may ask for."""
        verdict = inspection.verdict
        score = verdict.score
        point = TrendPoint(
            verdict.seq, verdict.verdict, score.image if score else None, score.threshold if score else None
        )
        with self._lock:
            self._counts[verdict.verdict] += 1
            self._trend.append(point)
            if verdict.verdict == "NG":
                self._ng.appendleft(inspection)
            self._newest = inspection
            self._newest_monotonic_s = time.monotonic()

    def count_anew(self) -> None:
        """Counters start at zero again; trend and pictures stay."""
        with self._lock:
            self._counts = dict.fromkeys(get_args(Outcome), 0)

    @property
    def total(self) -> int:
        """Verdicts counted so far."""
        with self._lock:
            return sum(self._counts.values())

    def read(self) -> Reading:
        """A consistent copy; its newest inspection can be found again for a while."""
        with self._lock:
            newest = self._newest
            if newest is not None and (not self._shown or self._shown[-1] is not newest):
                self._shown.append(newest)
            age_s = None if newest is None else time.monotonic() - self._newest_monotonic_s
            return Reading(self._counts.copy(), tuple(self._trend), tuple(self._ng), newest, age_s)

    def find(self, result_id: str) -> Inspection | None:
        """An inspection that was read a moment ago or is among the rejected parts kept."""
        with self._lock:
            kept = (*self._shown, *self._ng)
        return next((inspection for inspection in kept if inspection.verdict.result_id == result_id), None)
