"""Damaged outbox files: what can be read is kept, nothing is made up, and the gap is on record."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import OutboxError
from edge.outbox import Gap, Kind, Message, Outbox, Row
from edge.outbox.file import PAGE_BYTES

WAITING = 300
SENT = 40


def message(seq: int, kind: Kind = "verdict", size: int = 0) -> Message:
    filling = random.Random(seq).randbytes(size or 20 + 97 * seq % 1400)
    return Message(
        f"root/{kind}", b'{"seq":%d,"filling":"%s"}' % (seq, filling.hex().encode()), 1, False, kind, "b", seq
    )


def expected(seq: int) -> list[Message]:
    large = seq % 50 == 7
    return [message(seq), *([message(seq, "mask", 9000)] if large else [])]


def copy(source: Path, to: Path) -> Path:
    for end in ("", "-wal"):
        if source.with_name(source.name + end).exists():
            shutil.copy(source.with_name(source.name + end), to / f"outbox.sqlite{end}")
    return to / "outbox.sqlite"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outbox as a power cut leaves it: half of it in the database, the rest in the log; 40 verdicts delivered."""
    directory = tmp_path_factory.mktemp("live")
    outbox = Outbox(directory / "live.sqlite", 10_000)
    for seq in range(SENT):
        outbox.append_many(expected(seq))
    outbox.remove([row.id for row in outbox.pending(10_000)])
    for seq in range(SENT, SENT + WAITING):
        outbox.append_many(expected(seq))
        if seq == SENT + WAITING // 2:
            outbox._store._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)")
    cut = tmp_path_factory.mktemp("cut")
    path = copy(directory / "live.sqlite", cut)
    outbox.close()
    return path


ALL = [part for seq in range(SENT + WAITING) for part in expected(seq)]


def check_honest(rows: list[Row]) -> None:
    """Nothing altered, nothing made up, in order, no repetition."""
    assert all(row.message in ALL for row in rows)
    places = [ALL.index(row.message) for row in rows]
    assert places == sorted(set(places))


def verdict_seqs(rows: list[Row]) -> set[int]:
    return {row.message.seq for row in rows if row.message.kind == "verdict"}


def covered(gaps: list[Gap]) -> set[int]:
    return {seq for gap in gaps if gap.kind == "verdict" for seq in range(gap.from_seq, gap.to_seq + 1)}


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def test_a_power_cut_is_no_damage(files: Path, tmp_path: Path) -> None:
    outbox = Outbox(copy(files, tmp_path), 10_000)
    rows = outbox.pending(10_000)
    assert outbox.salvage is None
    assert [row.message for row in rows] == [part for seq in range(SENT, SENT + WAITING) for part in expected(seq)]
    outbox.close()


@settings(max_examples=15)
@given(data=st.data())
def test_any_damage_leaves_what_can_be_read_and_nothing_else(files: Path, data: st.DataObject) -> None:
    """Up to three places of the database and its log are overwritten, or one of the two is cut short."""
    with TemporaryDirectory() as directory:
        path = copy(files, Path(directory))
        wal = path.with_name("outbox.sqlite-wal")
        touched = 0
        for _ in range(data.draw(st.integers(1, 3))):
            target = data.draw(st.sampled_from([path, wal]))
            size = target.stat().st_size
            offset = data.draw(st.integers(0, size - 1))
            length = data.draw(st.sampled_from([1, 7, 512, PAGE_BYTES, 5 * PAGE_BYTES]))
            fill = data.draw(st.sampled_from(["zeros", "ones", "noise", "cut"]))
            if fill == "cut":
                with target.open("r+b") as file:
                    file.truncate(offset)
                touched += size - offset
                break
            content = {
                "zeros": bytes(length),
                "ones": b"\xff" * length,
                "noise": random.Random(offset).randbytes(length),
            }
            overwrite(target, offset, content[fill][: size - offset])
            touched += length
        outbox = Outbox(path, 10_000)
        rows = outbox.pending(10_000)
        check_honest(rows)
        lost = set(range(SENT, SENT + WAITING)) - verdict_seqs(rows)
        newest = max(verdict_seqs(rows), default=0)
        assert {seq for seq in lost if min(verdict_seqs(rows), default=0) < seq < newest} <= covered(outbox.gaps())
        # A verdict takes 60 to 2,900 bytes in one page; nothing but what shares a page with damage may go.
        pages_hit = 2 * (touched // PAGE_BYTES + 6)
        assert len(lost) <= pages_hit * 10
        if lost and lost != set(range(newest + 1, SENT + WAITING)):
            assert outbox.salvage is not None
            assert outbox.salvage.kept_as.exists()
            assert wal_kept(outbox.salvage.kept_as)
        (fresh,) = outbox.append_many([message(5000)])
        assert fresh > max((row.id for row in rows), default=0)
        outbox.remove([row.id for row in outbox.pending(10_000)])
        assert outbox.count() == 0
        outbox.close()


def wal_kept(database: Path) -> bool:
    return database.with_name(f"{database.name}-wal").exists()


def test_an_append_that_returned_outlives_any_torn_log(files: Path, tmp_path: Path) -> None:
    """The log as it was after each append, and parts of what the next one wrote."""
    live = Outbox(tmp_path / "live.sqlite", 10_000)
    source = tmp_path / "live.sqlite"
    cut_at = random.Random(1)
    for seq in range(24):
        before = source.with_name("live.sqlite-wal").stat().st_size if seq else 0
        live.append_many(expected(seq + 5))
        after = source.with_name("live.sqlite-wal").stat().st_size
        for end in (before, cut_at.randrange(before, after), after - 1, after):
            directory = tmp_path / f"{seq}-{end}"
            directory.mkdir()
            path = copy(source, directory)
            with path.with_name("outbox.sqlite-wal").open("r+b") as file:
                file.truncate(end)
            outbox = Outbox(path, 10_000)
            rows = outbox.pending(10_000)
            assert verdict_seqs(rows) >= set(range(5, seq + 5))
            check_honest(rows)
            outbox.close()
        if seq == 11:
            live._store._checkpointer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    live.close()


def zero_the_first_page(path: Path) -> None:
    Outbox(path, 10_000).close()  # the log has another copy of it
    overwrite(path, 0, bytes(PAGE_BYTES))


def zero_the_root_pages(path: Path) -> None:
    Outbox(path, 10_000).close()
    overwrite(path, PAGE_BYTES, bytes(4 * PAGE_BYTES))


def empty_the_database(path: Path) -> None:
    path.write_bytes(b"")


def remove_the_database(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [zero_the_first_page, zero_the_root_pages, empty_the_database, remove_the_database])
def test_rows_are_found_without_the_tree_above_them(
    files: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = copy(files, tmp_path)
    damage(path)
    outbox = Outbox(path, 10_000)
    assert outbox.salvage is not None
    rows = outbox.pending(10_000)
    check_honest(rows)
    in_log = set(range(SENT + WAITING // 2 + 1, SENT + WAITING))
    assert verdict_seqs(rows) >= (set(range(SENT, SENT + WAITING)) if "page" in damage.__name__ else in_log)
    assert not verdict_seqs(rows) & set(range(SENT)) or "database" in damage.__name__  # what was delivered stays so
    outbox.close()


def test_a_description_that_no_message_can_quote_is_damage(files: Path, tmp_path: Path) -> None:
    path = copy(files, tmp_path)
    Outbox(path, 10_000).close()
    content = path.read_bytes()
    path.write_bytes(content.replace(b"CREATE TABLE outbox", b"CREATE \xe0\x80\xff\xfe\xff outbox"))
    outbox = Outbox(path, 10_000)
    assert outbox.salvage is not None
    assert verdict_seqs(outbox.pending(10_000)) == set(range(SENT, SENT + WAITING))
    outbox.close()


def test_damage_inside_the_log_does_not_hide_what_is_behind_it(files: Path, tmp_path: Path) -> None:
    """SQLite ends its reading of the log at the first bad frame, and says nothing."""
    path = copy(files, tmp_path)
    overwrite(path.with_name("outbox.sqlite-wal"), 32 + 24 + 200, b"\xff" * 64)
    outbox = Outbox(path, 10_000)
    assert outbox.salvage is not None
    assert "log is damaged" in str(outbox.salvage)
    assert verdict_seqs(outbox.pending(10_000)) >= set(range(SENT + WAITING // 2 + 5, SENT + WAITING))
    outbox.close()


@pytest.mark.parametrize("call", ["pending", "remove", "append"])
def test_damage_met_while_running_is_mended_on_the_spot(files: Path, tmp_path: Path, call: str) -> None:
    path = copy(files, tmp_path)
    outbox = Outbox(path, 10_000)
    outbox._store.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    newest = outbox.last_id
    pages = path.stat().st_size // PAGE_BYTES
    for page in range(1, pages, 1 if call == "append" else 4):
        overwrite(path, page * PAGE_BYTES, b"\xff" * 100)
    outbox._store.writer.execute("PRAGMA shrink_memory")
    outbox._store.reader.execute("PRAGMA shrink_memory")
    if call == "remove":
        outbox.remove(range(1, newest + 1))
        assert outbox.count() == 0
    elif call == "append":
        for seq in range(5000, 5020):
            outbox.append_many([message(seq)])
        assert verdict_seqs(outbox.pending(10_000)) >= set(range(5000, 5020))
    rows = [row for row in outbox.pending(10_000) if row.message.seq < 5000]
    check_honest(rows)
    assert outbox.salvage is not None
    assert outbox.append_many([message(6000)])[0] > newest
    assert outbox.count() == len(outbox.pending(10_000))
    outbox.close()


def test_one_flipped_bit_of_a_payload_costs_that_row_alone(files: Path, tmp_path: Path) -> None:
    path = copy(files, tmp_path)
    Outbox(path, 10_000).close()
    content = bytearray(path.read_bytes())
    content[content.index(b'{"seq":100,') + 30] ^= 1
    path.write_bytes(content)
    outbox = Outbox(path, 10_000)
    assert outbox.salvage is None  # SQLite finds nothing wrong
    rows = outbox.pending(10_000)
    assert verdict_seqs(rows) == set(range(SENT, SENT + WAITING)) - {100}
    assert outbox.gaps() == [Gap("b", "verdict", 100, 100)]
    assert "fails its checksum; 305 messages saved, 1 verdicts missing" in str(outbox.salvage)
    assert outbox.delivered("b", 0, 5000, 5000)[-1].seq == SENT - 1
    outbox.close()


def test_a_salvage_that_a_power_cut_ended_is_completed(files: Path, tmp_path: Path) -> None:
    path = copy(files, tmp_path)
    Outbox(path, 10_000).close()
    path.rename(tmp_path / "outbox.sqlite.salvaged")
    path.write_bytes(b"\xff" * 9000)
    path.with_name("outbox.sqlite-wal").write_bytes(b"old log")
    outbox = Outbox(path, 10_000)
    assert verdict_seqs(outbox.pending(10_000)) == set(range(SENT, SENT + WAITING))
    assert outbox.salvage is None
    outbox.close()


def test_without_room_for_the_new_file_the_damaged_one_stays(
    files: Path, tmp_path: Path, limited_file_size: Callable[[], object]
) -> None:
    path = copy(files, tmp_path)
    zero_the_first_page(path)
    before = path.read_bytes()
    with limited_file_size() as limit:  # type: ignore[attr-defined]
        limit(100_000)
        with pytest.raises(OutboxError, match="has room"):
            Outbox(path, 10_000)
    assert path.read_bytes() == before
    outbox = Outbox(path, 10_000)
    assert verdict_seqs(outbox.pending(10_000)) >= set(range(SENT, SENT + WAITING))
    outbox.close()


def test_damaged_files_do_not_pile_up(files: Path, tmp_path: Path) -> None:
    for _ in range(5):
        path = copy(files, tmp_path)
        zero_the_first_page(path)
        Outbox(path, 10_000).close()
    assert len(list(tmp_path.glob("*.damaged-*Z"))) == 3


def test_another_process_cannot_open_the_file_of_a_running_station(tmp_path: Path) -> None:
    import subprocess
    import sys

    outbox = Outbox(tmp_path / "outbox.sqlite", 100)
    program = "import sys; from pathlib import Path; from edge.outbox import Outbox; Outbox(Path(sys.argv[1]), 100)"
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "outbox.sqlite")], capture_output=True, text=True, check=False
    )
    assert "no other station uses the file" in ended.stderr
    outbox.close()


def test_a_database_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE parts (colour TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(OutboxError, match="another kind"):
        Outbox(path, 100)
    assert path.read_bytes()[100:] == before[100:]
