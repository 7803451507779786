"""What one verdict becomes on the wire: itself, the PLC's record, and a mask that did not fit."""

from __future__ import annotations

from edge.messages import FittedVerdict
from edge.notices import plc_record
from edge.outbox import Kind, Message
from edge.wire import Topics


def verdict_messages(topics: Topics, fitted: FittedVerdict, *, with_plc: bool) -> list[Message]:
    """The messages of one verdict, for one transaction of the outbox; the most urgent first.

    Args:
        topics: the station's.
        fitted: the verdict within its size.
        with_plc: whether the flat record is wanted.
    """
    verdict = fitted.verdict

    def message(topic: str, payload: bytes, kind: Kind) -> Message:
        return Message(topic, payload, 1, False, kind, verdict.boot_id, verdict.seq)

    messages = [message(topics.verdict, fitted.payload, "verdict")]
    if with_plc:
        messages.append(message(topics.plc, plc_record(verdict).encode(), "plc"))
    if fitted.mask_payload is not None:
        messages.append(message(topics.mask(verdict.result_id), fitted.mask_payload, "mask"))
    return messages
