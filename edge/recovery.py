"""Answers the triggers that a killed or crashed boot left open, in that boot's name.

Each gets its one verdict, TIMEOUT, with the sequence number that follows: to consumers the old boot is complete.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace

from edge.delivery import verdict_messages
from edge.journal import OpenTrigger, TriggerJournal, Unfinished
from edge.outbox import Outbox
from edge.outcome import Outcome
from edge.report import Reporter
from edge.triggers import Trigger
from edge.wire import Topics

REASON = "station_ended"

_log = logging.getLogger(__name__)


def finish_earlier_boot(
    journal: TriggerJournal, outbox: Outbox, reporter: Reporter, topics: Topics, *, with_plc: bool
) -> int:
    """Make the missing verdicts durable, all or none, and begin the journal of this boot.

    Args:
        journal: as it was opened.
        outbox: of the same station.
        reporter: of this boot; the verdicts name the earlier one, and the model of this one.
        topics: the station's.
        with_plc: whether the flat record is wanted.

    Returns:
        How many triggers were answered.

    Raises:
        OutboxError: outbox or journal cannot be written; the next start tries again.
    """
    left = journal.unfinished
    answered = 0
    if left is not None:
        triggers, seq = _unanswered(left, outbox)
        speaker = replace(reporter, boot_id=left.boot_id)
        now_utc_ns = time.time_ns()
        messages = [
            message
            for number, trigger in enumerate(triggers, seq)
            for fitted in (speaker.compose(_timeout(trigger, now_utc_ns), number, ""),)
            for message in verdict_messages(topics, fitted, with_plc=with_plc)
        ]
        if messages:
            outbox.append_many(messages)
            _log.warning("boot %s ended with %d triggers open: TIMEOUT", left.boot_id, len(triggers))
        answered = len(triggers)
    journal.begin(reporter.boot_id)
    return answered


def _unanswered(left: Unfinished, outbox: Outbox) -> tuple[list[OpenTrigger], int]:
    """The triggers without a durable verdict, and the sequence number of the next one.

    The process may have ended between a verdict's commit and its trigger's leave from the journal; after a power cut
    the journal may be older than the outbox by seconds.
    """
    durable = [json.loads(payload) for payload in outbox.verdicts(left.boot_id, left.verdicts)]
    given_up = [gap.to_seq for gap in outbox.gaps() if (gap.boot_id, gap.kind) == (left.boot_id, "verdict")]
    last = max([left.verdicts - 1, *given_up, *(verdict["seq"] for verdict in durable)])
    answered = {verdict["part"]["trigger_id"] for verdict in durable}
    return [trigger for trigger in left.triggers if trigger.trigger_id not in answered], last + 1


def _timeout(trigger: OpenTrigger, now_utc_ns: int) -> Outcome:
    waited_ns = max(0, now_utc_ns - trigger.fired_utc_ns)
    return Outcome(Trigger(trigger.trigger_id, 0, trigger.fired_utc_ns, 0), "TIMEOUT", REASON, waited_ns)
