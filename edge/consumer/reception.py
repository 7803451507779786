"""What a receiver can say about its own receiving."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BadMessage:
    """A message, or an inline mask, that breaks the published rules, and how. `source` is its topic."""

    source: str
    payload: bytes
    problem: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Since the start.

    Attributes:
        verdicts: handed over.
        repeated: dropped, since they had been handed over or held already.
        foreign: replays that another receiver asked for.
        bad: messages that break the published rules.
        missing: verdicts given up, whether they came later or not.
        requests: replays asked for.
        waiting: verdicts that wait behind a gap at this moment.
    """

    verdicts: int = 0
    repeated: int = 0
    foreign: int = 0
    bad: int = 0
    missing: int = 0
    requests: int = 0
    waiting: int = 0
