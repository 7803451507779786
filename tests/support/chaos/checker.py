"""Whether a station kept its promises, judged from outside: what it fired, what it made durable, what arrived.

Knows nothing of how a station works; only what it says of itself on the wire, and what witnesses wrote down.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from types import MappingProxyType
from typing import Literal

_NS = 1_000_000_000
End = Literal["stopped", "killed", "failed"]


@dataclass(frozen=True, slots=True)
class Boot:
    """One run of a station, as its witness and its starter saw it. Times from `time.monotonic_ns()`.

    Attributes:
        boot_id: what its verdicts carry.
        fired_ns: when each trigger was fired, by its id.
        durable_ns: when each verdict was known to be on disk, by `result_id`; also those in an earlier boot's name.
        ended: it stopped when asked to, it was killed, or it gave up.
        ended_ns: when its process was gone.
    """

    boot_id: str
    fired_ns: Mapping[int, int]
    durable_ns: Mapping[str, int]
    ended: End
    ended_ns: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """One verdict as a consumer got it."""

    received_ns: int
    result_id: str
    boot_id: str
    seq: int
    trigger_id: int
    verdict: str
    content: bytes
    ts_camera: int | None = None

    @staticmethod
    def of(payload: bytes, received_ns: int) -> Delivery:
        """Of a message's bytes; `content` is a digest of all but `historical`, which a replay may change."""
        said = json.loads(payload)
        content = sha256(json.dumps({**said, "historical": None}, sort_keys=True).encode()).digest()
        return Delivery(
            received_ns,
            said["result_id"],
            said["boot_id"],
            said["seq"],
            said["part"]["trigger_id"],
            said["verdict"],
            content,
            said.get("ts_camera"),
        )


@dataclass(slots=True)
class Report:
    """What was counted, and every broken promise in words.

    Attributes:
        triggers: fired.
        verdicts: told apart by `result_id`.
        by_kind: verdicts by what they say.
        repeated: deliveries of a verdict that had arrived before.
        open_at_end: triggers that a boot which was killed or gave up had not answered, and no boot came after it.
        answered_later: triggers that the next boot answered.
        late: verdicts that arrived after a later one of their boot, as a backlog does.
        compared: verdicts held against what was under the camera.
        violations: broken promises.
    """

    boots: int = 0
    triggers: int = 0
    verdicts: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    lost: int = 0
    open_at_end: int = 0
    answered_later: int = 0
    late: int = 0
    compared: int = 0
    violations: list[str] = field(default_factory=list)


def check(
    boots: Sequence[Boot],
    deliveries: Iterable[Delivery],
    sessions_ns: Sequence[int],
    *,
    deadline_s: float,
    slack_s: float = 1.0,
    expected: Mapping[int, str] = MappingProxyType({}),
) -> Report:
    """Compare what was fired and made durable with what arrived.

    Args:
        boots: every run of the station.
        deliveries: in the order of arrival.
        sessions_ns: when the broker accepted the station, ascending.
        deadline_s: within which a trigger has its verdict.
        slack_s: how far the witnesses' clocks and the machine's scheduling may be off.
        expected: the verdict on what was under the camera, OK or NG, by the frame's timestamp.
    """
    report = Report(boots=len(boots))
    by_boot: dict[str, list[Delivery]] = defaultdict(list)
    known: dict[str, Delivery] = {}
    for delivery in deliveries:
        first = known.setdefault(delivery.result_id, delivery)
        if first is delivery:
            by_boot[delivery.boot_id].append(delivery)
            report.by_kind[delivery.verdict] += 1
            truth = expected.get(delivery.ts_camera or 0)
            report.compared += truth is not None
            if delivery.verdict in ("OK", "NG") and truth not in (None, delivery.verdict):
                report.violations.append(f"verdict {delivery.result_id} is {delivery.verdict}, the part {truth}")
            continue
        report.repeated += 1
        if first.content != delivery.content:
            report.violations.append(f"verdict {delivery.result_id} came twice and was not the same")
    report.verdicts = len(known)
    in_other_names = {
        result_id
        for boot in boots
        for result_id in boot.durable_ns
        if result_id in known and known[result_id].boot_id != boot.boot_id
    }
    for number, boot in enumerate(boots, 1):
        lost = boot.durable_ns.keys() - known.keys()
        report.lost += len(lost)
        if lost:
            report.violations.append(
                f"boot {boot.boot_id}: {len(lost)} durable verdicts never arrived, such as {min(lost)}"
            )
        arrived = by_boot.pop(boot.boot_id, [])
        report.answered_later += len(in_other_names & {delivery.result_id for delivery in arrived})
        _check_answers(boot, arrived, number == len(boots), round(deadline_s * _NS), slack_s, report)
        _check_order(boot, arrived, sessions_ns, round(slack_s * _NS), report)
    for boot_id, strays in by_boot.items():
        report.violations.append(f"{len(strays)} verdicts of boot {boot_id}, which never ran")
    return report


def _check_answers(
    boot: Boot, arrived: list[Delivery], is_last: bool, deadline_ns: int, slack_s: float, report: Report
) -> None:
    say = report.violations.append
    seqs = Counter(delivery.seq for delivery in arrived)
    if sorted(seqs.elements()) != list(range(len(arrived))):
        missing = sorted(set(range(max(seqs, default=-1) + 1)) - seqs.keys())
        double = [seq for seq, times in seqs.items() if times > 1]
        say(f"boot {boot.boot_id}: seq has gaps at {missing[:5]} or verdicts of one number at {double[:5]}")
    answers = Counter(delivery.trigger_id for delivery in arrived)
    fired = boot.fired_ns.keys()
    if boot.ended == "killed":
        # Its witness may not have got to the last one.
        fired |= answers.keys() & {len(fired)}
    report.triggers += len(fired)
    if never := sorted(answers.keys() - fired):
        say(f"boot {boot.boot_id}: verdicts of triggers that were never fired: {never[:5]}")
    if double := [trigger for trigger, times in answers.items() if times > 1]:
        say(f"boot {boot.boot_id}: more than one verdict of triggers {double[:5]}")
    unanswered = [trigger for trigger in boot.fired_ns if trigger not in answers]
    if is_last and boot.ended != "stopped":
        report.open_at_end += len(unanswered)
        # Killed in time, it could not answer; what was due earlier it owed.
        due_ns = boot.ended_ns - deadline_ns - round(slack_s * _NS)
        unanswered = [trigger for trigger in unanswered if boot.fired_ns[trigger] < due_ns]
    if unanswered:
        say(f"boot {boot.boot_id}, {boot.ended}: no verdict of triggers {unanswered[:5]}")


def _check_order(
    boot: Boot, arrived: list[Delivery], sessions_ns: Sequence[int], slack_ns: int, report: Report
) -> None:
    """Within a connection, what became durable during it comes in order; so does what it found waiting."""
    newest, newest_late, late_since = -1, -1, -1
    for delivery in arrived:
        if delivery.seq > newest:
            newest = delivery.seq
            continue
        report.late += 1
        session = bisect_right(sessions_ns, delivery.received_ns) - 1
        began_ns = sessions_ns[session] if session >= 0 else 0
        durable_ns = boot.durable_ns.get(delivery.result_id, boot.ended_ns)
        if durable_ns > began_ns + slack_ns:
            report.violations.append(
                f"boot {boot.boot_id}: live verdict {delivery.seq} came after {newest}, on one connection"
            )
        if session == late_since and delivery.seq < newest_late:
            report.violations.append(
                f"boot {boot.boot_id}: backlog out of order, {delivery.seq} came after {newest_late}"
            )
        newest_late, late_since = delivery.seq, session
