"""Makes a sound outbox out of a damaged one: what can be read moves into a new file, the damaged one is set aside.

What was waiting waits again; a verdict that was delivered does not, as far as the file still tells. A power cut at any
moment of it leaves either the damaged file or the new one.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path

from edge.outbox.file import (
    APPLICATION_ID,
    APPLICATION_ID_AT,
    PAGE_BYTES,
    connect,
    go_on_after,
    insert,
    insert_delivered,
    insert_gap,
    prepare,
    transaction,
)
from edge.outbox.pages import FRAME_HEADER_BYTES, WAL_HEADER_BYTES, Findings, find_rows
from edge.outbox.rows import Gap, Row

_FILE_HEADER_BYTES = 100
_SETS_KEPT = 3


@dataclass(frozen=True, slots=True)
class Salvage:
    """What became of a damaged outbox.

    Attributes:
        problem: how the damage showed.
        saved: messages that wait again.
        missing: verdicts that the file should hold and does not.
        kept_as: the damaged file; its log has the same name with `-wal`.
    """

    problem: str
    saved: int
    missing: tuple[Gap, ...]
    kept_as: Path

    @property
    def lost(self) -> int:
        """How many verdicts are missing."""
        return sum(gap.to_seq - gap.from_seq + 1 for gap in self.missing)

    def __str__(self) -> str:
        return (
            f"{self.problem}; {self.saved} messages saved, {self.lost} verdicts missing;"
            f" damaged file: {self.kept_as.name}"
        )


def wal_of(path: Path) -> Path:
    """The write-ahead log beside a database."""
    return path.with_name(f"{path.name}-wal")


def read_file(path: Path) -> bytes:
    """Its content; empty when it is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def salvage(path: Path, database: bytes, wal: bytes, problem: str) -> Salvage:
    """Replace a damaged outbox, which must be closed.

    Args:
        path: the database.
        database, wal: content of the file and its log as they were before it was closed.
        problem: how the damage showed.

    Raises:
        sqlite3.DatabaseError: nothing says that this was an outbox; it is left alone.
        sqlite3.Error, OSError: the new file cannot be written; the damaged one is left alone.
    """
    found = find_rows(database, wal)
    if not _was_outbox(database, found):
        raise sqlite3.DatabaseError(problem)
    rows = waiting(found)
    missing = _missing(found, rows)
    _write(_new(path), found, rows, missing)
    stamp = datetime.fromtimestamp(time.time(), timezone.utc)
    kept_as = path.with_name(f"{path.name}.damaged-{stamp:%Y%m%dT%H%M%S.%fZ}")
    wal_of(kept_as).write_bytes(wal)
    if path.exists():
        os.link(path, kept_as)
    os.replace(_new(path), _ready(path))
    finish(path)
    _forget_older(path)
    return Salvage(problem, len(rows), tuple(missing), kept_as)


def finish(path: Path) -> None:
    """Put a new file that is complete in its place, also when a power cut came between."""
    if not _ready(path).exists():
        return
    for beside in (wal_of(path), path.with_name(f"{path.name}-shm")):
        beside.unlink(missing_ok=True)
    _sync(path.parent)  # an old log beside the new database would be read as its own
    os.replace(_ready(path), path)
    _sync(path.parent)


def waiting(found: Findings) -> list[Row]:
    """The rows that had not left the outbox, oldest first."""
    gone = {(item.boot_id, item.seq) for item in found.delivered.values()}
    removed_below = found.removed_below
    dropped = defaultdict(list)
    for gap in found.gaps:
        dropped[gap.boot_id, gap.kind].append(range(gap.from_seq, gap.to_seq + 1))
    return [
        row
        for id_, row in sorted(found.rows.items())
        if id_ >= removed_below
        and not (row.message.kind == "verdict" and (row.message.boot_id, row.message.seq) in gone)
        and not any(row.message.seq in span for span in dropped[row.message.boot_id, row.message.kind])
    ]


def lost_in_log(wal: bytes, frames_used: int, known_after: int) -> bool:
    """Whether a log holds verdicts behind the point where SQLite stopped reading it.

    Args:
        wal: the log as it was before it was opened.
        frames_used: frames that SQLite took from it.
        known_after: rows of the outbox with larger ids cannot be known.
    """
    skip = frames_used * (FRAME_HEADER_BYTES + PAGE_BYTES)
    rest = wal[:WAL_HEADER_BYTES] + wal[WAL_HEADER_BYTES + skip :]
    return any(id_ > known_after for id_ in find_rows(b"", rest).rows)


def _was_outbox(database: bytes, found: Findings) -> bool:
    """A file of zeros is what some file systems leave of a file after a power cut."""
    return (
        bool(found.rows or found.delivered or found.gaps)
        or not any(database[:_FILE_HEADER_BYTES])
        or database[APPLICATION_ID_AT] == APPLICATION_ID.to_bytes(4, "big")
    )


def _missing(found: Findings, rows: list[Row]) -> list[Gap]:
    """Verdicts of which neither delivery nor loss is known, between those that are."""
    known: dict[str, dict[int, int]] = defaultdict(dict)  # boot → seq → id
    for row in rows:
        if row.message.kind == "verdict":
            known[row.message.boot_id][row.message.seq] = row.id
    for item in found.delivered.values():
        known[item.boot_id][item.seq] = item.id
    for gap in found.gaps:
        if gap.kind == "verdict" and gap.boot_id in known:
            known[gap.boot_id] |= {gap.from_seq: 0, gap.to_seq: 0}
    spans = [range(gap.from_seq, gap.to_seq) for gap in found.gaps if gap.kind == "verdict"]
    missing = []
    for boot_id, ids in known.items():
        seqs = sorted(ids)
        for before, after in pairwise(seqs):
            # What lies before a row that is gone for good was gone before the damage.
            is_old = 0 < ids[after] < found.removed_below
            if after > before + 1 and not is_old and not any(before in span for span in spans):
                missing.append(Gap(boot_id, "verdict", before + 1, after - 1))
    return missing


def _write(path: Path, found: Findings, rows: list[Row], missing: list[Gap]) -> None:
    for left_over in (path, wal_of(path)):
        left_over.unlink(missing_ok=True)
    with closing(connect(path, "FULL", 0)) as connection:
        prepare(connection)
        with transaction(connection):
            insert(connection, rows)
            insert_delivered(connection, [item for _, item in sorted(found.delivered.items())])
            for gap in [*sorted(found.gaps, key=_order), *missing]:
                insert_gap(connection, gap)
            go_on_after(connection, max([*found.rows, *(item.id for item in found.delivered.values())], default=0))
        if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise sqlite3.OperationalError("the new file cannot be completed")
    _sync(path.parent)


def _order(gap: Gap) -> tuple[str, str, int]:
    return gap.boot_id, gap.kind, gap.from_seq


def _new(path: Path) -> Path:
    return path.with_name(f"{path.name}.salvaging")


def _ready(path: Path) -> Path:
    return path.with_name(f"{path.name}.salvaged")


def _forget_older(path: Path) -> None:
    """Damaged files must not fill the disk."""
    sets = sorted(path.parent.glob(f"{path.name}.damaged-*Z-wal"))
    for old_wal in sets[:-_SETS_KEPT]:
        old_wal.unlink()
        old_wal.with_name(old_wal.name.removesuffix("-wal")).unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
