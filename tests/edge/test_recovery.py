"""What a killed boot leaves open is answered by the next, once, in the dead boot's name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundle import load_bundle
from edge.config import Identity
from edge.errors import OutboxError
from edge.journal import OPEN_AT_MOST, OpenTrigger, TriggerJournal, Unfinished
from edge.messages import Model, Station
from edge.outbox import Message, Outbox
from edge.recovery import REASON, finish_earlier_boot
from edge.report import Reporter
from edge.triggers import Trigger
from edge.wire import Topics

OLD, NEW = "01JD9V3N0000000000000000B0", "01JD9V3N0000000000000000B1"
TOPICS = Topics(Identity(site="plant", area="paint", line="l1", station="s1"))
FIRED_NS = 1_760_000_000_000_000_000


def trigger(number: int) -> Trigger:
    return Trigger(number, number, FIRED_NS + number, number + 10)


@pytest.fixture
def reporter(read_only_bundle_dir) -> Reporter:
    return Reporter(
        boot_id=NEW,
        version="0.1.0",
        station=Station(site="plant", area="paint", line="l1", station="s1"),
        model=Model(name="m", version="1", precision="fp32", engine_sha256="0" * 64),
        manifest=load_bundle(read_only_bundle_dir).manifest,
        is_simulated=True,
    )


def verdict_of(number: int, seq: int, boot_id: str = OLD) -> Message:
    payload = json.dumps({"seq": seq, "part": {"trigger_id": number}}).encode()
    return Message(TOPICS.verdict, payload, 1, False, "verdict", boot_id, seq)


def told(outbox: Outbox) -> list[tuple[str, int, int, str | None]]:
    payloads = [json.loads(row.message.payload) for row in outbox.pending(1000) if row.message.kind == "verdict"]
    return [(p.get("boot_id"), p["seq"], p["part"]["trigger_id"], p.get("reason")) for p in payloads if "verdict" in p]


def test_a_new_journal_and_one_that_ended_in_order_leave_nothing(tmp_path):
    path = tmp_path / "journal"
    with closing(TriggerJournal(path)) as journal:
        assert journal.unfinished is None
        journal.begin(OLD)
        journal.remember(trigger(0))
        journal.forget(trigger(0), 1)
    with closing(TriggerJournal(path)) as journal:
        assert journal.unfinished is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), max_size=40), st.randoms(use_true_random=False))
def test_what_is_open_is_found_again(tmp_path_factory, moves, random):
    path = tmp_path_factory.mktemp("journal") / "journal"
    fired, verdicts, left = 0, 0, []
    with closing(TriggerJournal(path)) as journal:
        journal.begin(OLD)
        for is_shot in moves:
            if is_shot:
                journal.remember(trigger(fired))
                left.append(fired)
                fired += 1
            elif left:
                verdicts += 1
                journal.forget(trigger(left.pop(random.randrange(len(left)))), verdicts)
    found = tuple(OpenTrigger(number, FIRED_NS + number) for number in left)
    with closing(TriggerJournal(path)) as journal:
        assert journal.unfinished == (Unfinished(OLD, verdicts, found) if found else None)


def test_it_survives_a_kill(tmp_path):
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom edge.journal import TriggerJournal\n"
        "from edge.triggers import Trigger\n"
        f"journal = TriggerJournal(Path(sys.argv[1])); journal.begin('{OLD}')\n"
        "journal.remember(Trigger(7, 1, 2, 3))\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, tmp_path / "journal"], check=False)
    assert ended.returncode == -signal.SIGKILL
    with closing(TriggerJournal(tmp_path / "journal")) as journal:
        assert journal.unfinished == Unfinished(OLD, 0, (OpenTrigger(7, 2),))


def test_more_than_it_has_room_for_are_not_remembered(tmp_path):
    with closing(TriggerJournal(tmp_path / "journal")) as journal:
        journal.begin(OLD)
        for number in range(OPEN_AT_MOST + 1):
            journal.remember(trigger(number))
        journal.forget(trigger(OPEN_AT_MOST), 1)
        journal.forget(trigger(0), 2)
        journal.remember(trigger(OPEN_AT_MOST + 1))
    with closing(TriggerJournal(tmp_path / "journal")) as journal:
        numbers = [one.trigger_id for one in journal.unfinished.triggers]
    assert numbers == [*range(1, OPEN_AT_MOST), OPEN_AT_MOST + 1]


def test_a_damaged_journal_is_told_and_stops_nothing(tmp_path, caplog):
    (tmp_path / "journal").write_bytes(os.urandom(100))
    with closing(TriggerJournal(tmp_path / "journal")) as journal:
        assert journal.unfinished is None
    assert "damaged" in caplog.text


def test_a_place_where_it_cannot_be_is_told(tmp_path):
    with pytest.raises(OutboxError, match="cannot be opened"):
        TriggerJournal(tmp_path / "nowhere" / "journal")


def journal_with(path: Path, left: list[int], verdicts: int) -> TriggerJournal:
    with closing(TriggerJournal(path)) as journal:
        journal.begin(OLD)
        for number in left:
            journal.remember(trigger(number))
        journal.forget(trigger(10_000), verdicts)
    return TriggerJournal(path)


def finish(journal: TriggerJournal, outbox: Outbox, reporter: Reporter) -> int:
    return finish_earlier_boot(journal, outbox, reporter, TOPICS, with_plc=True)


def test_each_open_trigger_gets_one_timeout_in_the_dead_boots_name(tmp_path, reporter, validators):
    with (
        closing(Outbox(tmp_path / "outbox", 100)) as outbox,
        closing(journal_with(tmp_path / "journal", [3, 5], 4)) as journal,
    ):
        assert finish(journal, outbox, reporter) == 2
        assert told(outbox) == [(OLD, 4, 3, REASON), (OLD, 5, 5, REASON)]
        assert [row.message.kind for row in outbox.pending(9)] == ["verdict", "plc"] * 2
        for row in outbox.pending(9):
            validators[row.message.kind].validate(json.loads(row.message.payload))
    with closing(TriggerJournal(tmp_path / "journal")) as journal:
        assert journal.unfinished is None


@pytest.mark.parametrize("is_delivered", [False, True])
def test_a_trigger_whose_verdict_was_durable_gets_no_second_one(tmp_path, reporter, is_delivered):
    """Killed between the commit and the journal's entry; or the journal is older than the outbox by a power cut."""
    with (
        closing(Outbox(tmp_path / "outbox", 100)) as outbox,
        closing(journal_with(tmp_path / "journal", [3, 4, 5], 3)) as journal,
    ):
        ids = outbox.append_many([verdict_of(0, 0), verdict_of(4, 3), verdict_of(3, 4)])
        if is_delivered:
            outbox.remove(ids)
        assert finish(journal, outbox, reporter) == 1
        assert told(outbox) == [(OLD, 5, 5, REASON)]


def test_numbers_that_were_given_up_are_not_given_again(tmp_path, reporter):
    with (
        closing(Outbox(tmp_path / "outbox", 2)) as outbox,
        closing(journal_with(tmp_path / "journal", [9], 2)) as journal,
    ):
        outbox.append_many([verdict_of(number, number) for number in range(5)])
        outbox.discard_many(outbox.pending(9))
        assert finish(journal, outbox, reporter) == 1
        assert told(outbox) == [(OLD, 5, 9, REASON)]


def test_killed_before_the_journal_began_anew_it_answers_once(tmp_path, reporter):
    with closing(Outbox(tmp_path / "outbox", 100)) as outbox:
        with closing(journal_with(tmp_path / "journal", [1, 2], 1)) as journal:
            copy = (tmp_path / "journal").read_bytes()
            finish(journal, outbox, reporter)
        (tmp_path / "journal").write_bytes(copy)
        with closing(TriggerJournal(tmp_path / "journal")) as journal:
            assert finish(journal, outbox, reporter) == 0
        assert [number for _, _, number, _ in told(outbox)] == [1, 2]
