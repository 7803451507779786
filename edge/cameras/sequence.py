"""Whether a frame follows the one before it: frame ids that wrap, gaps, repetitions, frames out of the past."""

from __future__ import annotations

from dataclasses import dataclass

DUPLICATE = "duplicate_frame"
STALE = "stale_frame"

_WRAP = 1 << 16


@dataclass(frozen=True, slots=True)
class Step:
    """From one frame to the next: a fault (empty when there is none), and how many frames are missing between."""

    fault: str
    missing: int


def id_step(last_id: int, frame_id: int, *, counts_zero: bool) -> int:
    """How many frames further `frame_id` is; 0 for the same, negative for an earlier one.

    Ids of 16 bits wrap from 65535 to 0, or to 1 in GigE Vision 1.x, which has no id 0. As in serial number arithmetic
    (RFC 1982), less than half the range counts as forward.
    """
    step = frame_id - last_id
    if step >= 0 or last_id >= _WRAP:
        return step
    wrapped = step + _WRAP - (0 if counts_zero or frame_id == 0 else 1)
    return wrapped if wrapped < _WRAP // 2 else step


class FrameSequence:
    """The frames of one acquisition, in the order they came.

    A frame that repeats an id, or is not later than what came before, is no new exposure. Where the camera exposes by
    itself such a frame gets its own answer, so that the gap it leaves in the ids is not counted as missing once more.
    """

    def __init__(self) -> None:
        self._last_id: int | None = None
        self._last_ns: int | None = None
        self._counts_zero = False
        self._answered = 0

    def follow(self, frame_id: int | None, timestamp_ns: int | None) -> Step:
        """Take in the next frame; its id and `timestamp_ns`, by the camera's clock, are None when not known."""
        if frame_id is None:
            self._answered += 1
            return Step("", 0)
        self._counts_zero = self._counts_zero or frame_id == 0
        step = 1 if self._last_id is None else id_step(self._last_id, frame_id, counts_zero=self._counts_zero)
        has_times = timestamp_ns is not None and self._last_ns is not None
        is_later = timestamp_ns is None or self._last_ns is None or timestamp_ns > self._last_ns
        if step == 0 or (step < 0 and not (has_times and is_later)):
            self._answered += 1
            return Step(STALE if step else DUPLICATE, 0)
        missing = max(step - 1 - self._answered, 0)
        self._last_id, self._last_ns, self._answered = frame_id, timestamp_ns, 0
        return Step("" if is_later else STALE, missing)
