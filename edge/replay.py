"""Answers to `replay/request`: verdicts that were delivered before, once more, marked `historical`.

A receiver that misses verdicts names them by boot and sequence numbers. Nothing is computed or looked up before the
connection has room for an answer, so no request costs more than its place in a short queue.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from pydantic import ValidationError

from edge.mqtt.packets import Incoming
from edge.notices import ReplayRequest
from edge.outbox import Outbox

REQUEST_MAX_BYTES = 256
SPAN_MAX = 10_000
_WAITING_MAX = 16
_COMPLAINT_EVERY_S = 10.0
_FRESH, _REPLAYED = b'"historical":false', b'"historical":true'

_log = logging.getLogger(__name__)


class ReplayDesk:
    """Takes requests and hands out answers; belongs to the thread that delivers.

    Attributes:
        refused: requests that were not taken.
    """

    def __init__(self, outbox: Outbox, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.refused = 0
        self._outbox = outbox
        self._clock_s = clock_s
        self._waiting: deque[ReplayRequest] = deque()
        self._complain_at_s = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether there may be answers to send."""
        return bool(self._waiting)

    def receive(self, incoming: Incoming) -> None:
        """Take or refuse one request; for a refusal there is a line in the log, and no answer."""
        if incoming.is_retained:
            return self._refuse("retained by the broker; publish requests without the retain flag")
        if incoming.payload is None:
            return self._refuse(f"larger than {REQUEST_MAX_BYTES} bytes")
        try:
            request = ReplayRequest.model_validate_json(incoming.payload)
        except ValidationError as error:
            return self._refuse(error.errors(include_input=False, include_url=False)[0]["msg"])
        if request.to_seq - request.from_seq >= SPAN_MAX:
            return self._refuse(f"more than {SPAN_MAX} verdicts")
        if len(self._waiting) >= _WAITING_MAX:
            return self._refuse(f"{_WAITING_MAX} requests are waiting")
        if request not in self._waiting:
            self._waiting.append(request)
        return None

    def take(self, limit: int) -> list[bytes]:
        """The next answers, at most `limit`; what is no longer remembered is left out.

        Raises:
            OutboxError: the outbox cannot be read.
        """
        answers: list[bytes] = []
        while self._waiting and len(answers) < limit:
            request = self._waiting[0]
            room = limit - len(answers)
            found = self._outbox.delivered(request.boot_id, request.from_seq, request.to_seq, room)
            # A string cannot contain this: its quotes would be escaped.
            answers += [item.payload.replace(_FRESH, _REPLAYED, 1) for item in found]
            self._waiting.popleft()
            if len(found) == room and found[-1].seq < request.to_seq:
                rest = request.model_copy(update={"from_seq": found[-1].seq + 1})
                self._waiting.append(rest)  # so that a long one does not keep the others waiting
        return answers

    def _refuse(self, reason: str) -> None:
        self.refused += 1
        if self._clock_s() >= self._complain_at_s:
            self._complain_at_s = self._clock_s() + _COMPLAINT_EVERY_S
            _log.warning("request for a replay refused (%d so far): %s", self.refused, reason)
