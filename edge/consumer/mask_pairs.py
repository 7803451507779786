"""Brings masks that come as messages of their own together with their verdicts, in whichever order. Bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from edge.consumer.verdict import Verdict

_WAITING_KEPT = 200

T = TypeVar("T")


class MaskPairs:
    """Verdicts that wait for their mask, and masks that wait for their verdict; the oldest are forgotten."""

    def __init__(self) -> None:
        self._verdicts: OrderedDict[str, Verdict] = OrderedDict()
        self._payloads: OrderedDict[str, bytes] = OrderedDict()

    def add_verdict(self, verdict: Verdict) -> tuple[Verdict, bytes | None] | None:
        """The pair, when it is complete: an inline mask has no payload. None while there is nothing to show."""
        if verdict.mask is None:
            return None
        if verdict.mask.uri is None:
            return verdict, None
        payload = self._payloads.pop(verdict.result_id, None)
        if payload is not None:
            return verdict, payload
        _keep(self._verdicts, verdict.result_id, verdict)
        return None

    def add_payload(self, result_id: str, payload: bytes) -> tuple[Verdict, bytes] | None:
        """The pair, when it is complete."""
        verdict = self._verdicts.pop(result_id, None)
        if verdict is not None:
            return verdict, payload
        _keep(self._payloads, result_id, payload)
        return None


def _keep(waiting: OrderedDict[str, T], result_id: str, what: T) -> None:
    waiting[result_id] = what
    if len(waiting) > _WAITING_KEPT:
        waiting.popitem(last=False)
