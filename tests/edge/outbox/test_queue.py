from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import OutboxError
from edge.mqtt.feed import Feed, Pace
from edge.outbox import Gap, Kind, Message, Outbox, Row


def message(seq: int, kind: Kind = "verdict", boot_id: str = "boot") -> Message:
    return Message(f"root/{kind}", b"%d" % seq, 1, False, kind, boot_id, seq)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "outbox.sqlite", 100)
    yield opened
    opened.close()


def seqs(rows: list[Row]) -> list[int]:
    return [row.message.seq for row in rows]


def test_messages_come_back_whole_and_in_order(outbox: Outbox) -> None:
    first = outbox.append("t", b"\x00payload", qos=0, retain=True, kind="event", boot_id="b", seq=7)
    rest = outbox.append_many([message(8), message(8, "mask")])
    rows = outbox.pending(10)
    assert [row.id for row in rows] == [first, *rest]
    assert rows[0].message == Message("t", b"\x00payload", 0, True, "event", "b", 7)
    assert seqs(outbox.pending(1, after=first)) == [8]
    assert seqs(outbox.pending(10, up_to=first)) == [7]
    assert outbox.count() == 3


def test_what_was_removed_does_not_come_back_and_ids_go_on(outbox: Outbox) -> None:
    ids = outbox.append_many([message(n) for n in range(3)])
    outbox.remove([*ids, 999])
    assert (outbox.pending(10), outbox.count()) == ([], 0)
    assert outbox.append_many([message(3)])[0] > ids[-1] == outbox.last_id - 1


def test_another_run_finds_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    before = Outbox(path, 100)
    ids = before.append_many([message(n, boot_id="earlier") for n in range(5)])
    before.remove(ids[:2])
    before.close()
    after = Outbox(path, 100)
    new = after.append_many([message(0, boot_id="later")])
    assert [(row.message.boot_id, row.message.seq) for row in after.pending(10)] == [
        ("earlier", 2),
        ("earlier", 3),
        ("earlier", 4),
        ("later", 0),
    ]
    assert new[0] > ids[-1]
    assert after.count() == 4
    after.close()


def test_no_id_is_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    for seq in range(3):
        outbox = Outbox(path, 100)
        assert outbox.append_many([message(seq), message(seq, "mask")]) == [2 * seq + 1, 2 * seq + 2]
        outbox.remove([2 * seq + 2])
        outbox.remove([2 * seq + 1])
        outbox.close()


def test_an_append_survives_the_death_of_the_process(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom edge.outbox import Outbox\n"
        "outbox = Outbox(Path(sys.argv[1]), 100)\n"
        "for seq in range(20): outbox.append('t', b'x', qos=1, retain=False, kind='verdict', boot_id='b', seq=seq)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], check=False, timeout=30)
    assert ended.returncode == -signal.SIGKILL
    outbox = Outbox(path, 100)
    assert seqs(outbox.pending(100)) == list(range(20))
    outbox.close()


def test_a_full_outbox_drops_companions_before_verdicts_and_records_the_gap(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", 6)
    for seq in range(3):
        outbox.append_many([message(seq), message(seq, "mask")])
    outbox.append_many([message(3), message(4)])
    assert [(row.message.kind, row.message.seq) for row in outbox.pending(10)] == [
        ("verdict", 0),
        ("verdict", 1),
        ("verdict", 2),
        ("mask", 2),
        ("verdict", 3),
        ("verdict", 4),
    ]
    outbox.append_many([message(seq) for seq in range(5, 8)])
    assert seqs(outbox.pending(10)) == [2, 3, 4, 5, 6, 7]
    assert outbox.gaps() == [Gap("boot", "mask", 0, 2), Gap("boot", "verdict", 0, 1)]
    assert (outbox.dropped, outbox.count()) == (5, 6)
    outbox.close()


def test_bytes_are_bounded_like_rows(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", 1000, max_bytes=1000)
    for seq in range(3):
        outbox.append_many([sized(seq, 200), sized(seq, 100, "mask")])
    outbox.append_many([sized(3, 200), sized(3, 100, "plc")])
    assert [(row.message.kind, row.message.seq) for row in outbox.pending(10)] == [
        ("verdict", 0),
        ("verdict", 1),
        ("verdict", 2),
        ("mask", 2),
        ("verdict", 3),
        ("plc", 3),
    ]
    outbox.append_many([sized(4, 900)])
    assert seqs(outbox.pending(10)) == [4]
    assert outbox.gaps() == [
        Gap("boot", "mask", 0, 2),
        Gap("boot", "plc", 3, 3),
        Gap("boot", "verdict", 0, 3),
    ]
    outbox.remove([row.id for row in outbox.pending(10)])
    outbox.append_many([sized(5, 1000)])
    assert seqs(outbox.pending(10)) == [5]
    outbox.close()


def sized(seq: int, size: int, kind: Kind = "verdict") -> Message:
    return Message("t", bytes(size), 1, False, kind, "boot", seq)


def test_the_latest_delivered_verdicts_are_remembered(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", 1000, delivered_rows=5)
    ids = outbox.append_many([message(seq) for seq in range(8)] + [message(7, "mask")])
    outbox.remove(ids[6:])
    outbox.remove(ids[:4])
    assert [item.seq for item in outbox.delivered("boot", 0, 99, 99)] == [0, 1, 2, 3, 7]
    assert [item.payload for item in outbox.delivered("boot", 1, 3, 2)] == [b"1", b"2"]
    assert outbox.delivered("other", 0, 99, 99) == []
    outbox.close()
    outbox = Outbox(tmp_path / "outbox.sqlite", 1000, delivered_rows=5)
    assert [item.seq for item in outbox.delivered("boot", 0, 99, 99)] == [0, 1, 2, 3, 7]
    assert outbox.append_many([message(8)])[0] > ids[-2]
    outbox.close()


def _verdicts_lost(outbox: Outbox) -> int:
    return sum(gap.to_seq - gap.from_seq + 1 for gap in outbox.gaps() if gap.kind == "verdict")


steps = st.lists(st.tuples(st.sampled_from(["verdict", "mask", "plc"]), st.integers(0, 3)), max_size=60)


@settings(max_examples=40)
@given(steps=steps, max_rows=st.integers(1, 12))
def test_nothing_is_lost_without_being_counted(steps: list[tuple[Kind, int]], max_rows: int) -> None:
    with TemporaryDirectory() as directory:
        outbox = Outbox(Path(directory) / "outbox.sqlite", max_rows)
        sent: list[tuple[Kind, int]] = []
        delivered: list[tuple[str, int]] = []
        for seq, (kind, take) in enumerate(steps):
            verdicts_lost = _verdicts_lost(outbox)
            outbox.append_many([message(seq, kind)])
            sent.append((kind, seq))
            if _verdicts_lost(outbox) > verdicts_lost:
                assert {row.message.kind for row in outbox.pending(100)} == {"verdict"}
            rows = outbox.pending(take)
            delivered += [(row.message.kind, row.message.seq) for row in rows]
            outbox.remove([row.id for row in rows])
            assert outbox.count() <= max_rows
        waiting = [(row.message.kind, row.message.seq) for row in outbox.pending(100)]
        lost = set(sent) - set(delivered) - set(waiting)
        assert outbox.count() == len(waiting)
        assert outbox.dropped == len(lost)
        covered = {(gap.kind, seq) for gap in outbox.gaps() for seq in range(gap.from_seq, gap.to_seq + 1)}
        assert covered == lost
        outbox.close()


def test_a_message_given_up_is_a_gap(outbox: Outbox) -> None:
    outbox.append_many([message(4, "mask"), message(5)])
    outbox.discard(outbox.pending(1)[0])
    assert outbox.gaps() == [Gap("boot", "mask", 4, 4)]
    assert seqs(outbox.pending(10)) == [5]


def test_a_failed_append_leaves_nothing(outbox: Outbox) -> None:
    (pages,) = outbox._store.writer.execute("PRAGMA page_count").fetchone()
    outbox._store.writer.execute(f"PRAGMA max_page_count = {pages}")
    large = Message("t", bytes(10 * 4096), 1, False, "mask", "boot", 0)
    with pytest.raises(OutboxError, match=r"cannot be written .*full"):
        outbox.append_many([message(0), large])
    assert (outbox.pending(10), outbox.count(), outbox.last_id) == ([], 0, 0)
    outbox.append_many([message(1)])
    assert seqs(outbox.pending(10)) == [1]


def test_the_reader_is_rung_after_the_commit(outbox: Outbox) -> None:
    seen: list[int] = []
    outbox.on_append(lambda: seen.append(len(outbox.pending(10))))
    outbox.append_many([message(0), message(1)])
    assert seen == [2]


def test_one_thread_appends_while_another_removes(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", 1000)
    total = 200
    read: list[int] = []

    def deliver() -> None:
        after = 0
        while len(read) < total:
            if rows := outbox.pending(7, after):
                after = rows[-1].id
                read.extend(seqs(rows))
                outbox.remove([row.id for row in rows])

    reader = threading.Thread(target=deliver)
    reader.start()
    for seq in range(total):
        outbox.append_many([message(seq)])
    reader.join(30)
    assert read == list(range(total))
    assert outbox.count() == 0
    outbox.close()


def test_commits_are_synced_and_removals_are_not(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    outbox = Outbox(path, 100)
    assert outbox._store.writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert outbox._store.reader.execute("PRAGMA synchronous").fetchone() == (1,)
    assert outbox._store.writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    outbox.close()
    with pytest.raises(OutboxError, match="cannot be read"):
        outbox.pending(1)


def test_a_file_that_is_no_outbox_is_refused_in_clear_words(tmp_path: Path) -> None:
    noise = tmp_path / "noise.sqlite"
    noise.write_bytes(b"not a database at all" * 100)
    with pytest.raises(OutboxError, match=r"noise\.sqlite' cannot be opened .*not a database"):
        Outbox(noise, 100)
    with pytest.raises(OutboxError, match="check that the directory exists"):
        Outbox(tmp_path / "missing" / "outbox.sqlite", 100)
    with pytest.raises(OutboxError, match="cannot be opened"):
        Outbox(tmp_path, 100)


def test_live_messages_go_before_the_backlog_which_is_slowed_down(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", 1000)
    outbox.append_many([message(seq) for seq in range(100)])
    feed = Feed(outbox, pace := Pace(2000.0))
    outbox.append_many([message(seq) for seq in range(100, 110)])
    assert seqs(feed.take(25, now_s=0.0)) == [*range(100, 110), *range(10)]
    assert feed.take(20, now_s=0.0) == []
    assert 0 < pace.until_next_s() <= 1 / 2000
    outbox.append_many([message(110)])
    assert seqs(feed.take(20, now_s=0.0)) == [110]
    taken = 10
    now_s = 0.0
    while feed.has_backlog:
        rows = feed.take(1000, now_s := now_s + pace.until_next_s() + 1e-6)
        assert seqs(rows) == list(range(taken, taken + len(rows)))
        taken += len(rows)
    assert taken == 100
    assert now_s == pytest.approx((100 - 10) / 2000, rel=0.02)
    outbox.close()


def test_a_pause_does_not_save_up_allowance() -> None:
    pace = Pace(1000.0)
    assert pace.allowance(now_s=3600.0) == 5
    assert Pace(1.0).allowance(now_s=0.0) == 1
