"""The outbox's file: its tables, its connections, and what goes into them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from edge.outbox.rows import (
    DamageError,
    Delivered,
    Gap,
    Row,
    checksum_of_delivered,
    checksum_of_gap,
    checksum_of_row,
)

PAGE_BYTES = 4096
APPLICATION_ID = 0x74666F62
APPLICATION_ID_AT = slice(68, 72)  # of the file's first page
_FORMAT = 1
_BUSY_TIMEOUT_S = 5.0
_GAPS_KEPT = 1000

# What SQLite says of the file's surroundings; a new file would not help.
_SURROUNDINGS = ("unable to open", "database is locked", "database or disk is full", "disk I/O error")

_TABLES = (
    "CREATE TABLE outbox ("
    "id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL, "
    "retain INTEGER NOT NULL, kind TEXT NOT NULL, boot_id TEXT NOT NULL, seq INTEGER NOT NULL, "
    "checksum BLOB NOT NULL)",
    "CREATE INDEX outbox_expendable ON outbox (id) WHERE kind <> 'verdict'",
    "CREATE TABLE delivered ("
    "number INTEGER PRIMARY KEY, removed_below INTEGER NOT NULL, id INTEGER NOT NULL, boot_id TEXT NOT NULL, "
    "seq INTEGER NOT NULL, payload BLOB NOT NULL, checksum BLOB NOT NULL)",
    "CREATE INDEX delivered_by_seq ON delivered (boot_id, seq)",
    "CREATE TABLE gap ("
    "id INTEGER PRIMARY KEY, boot_id TEXT NOT NULL, kind TEXT NOT NULL, "
    "from_seq INTEGER NOT NULL, to_seq INTEGER NOT NULL, checksum BLOB NOT NULL)",
)
_TABLES_THERE = "SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY rowid"
_LAST_ID = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'outbox'"
_INSERT = "INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_DELIVERED = "INSERT INTO delivered VALUES (NULL, ?, ?, ?, ?, ?, ?)"
_INSERT_GAP = "INSERT INTO gap VALUES (NULL, ?, ?, ?, ?, ?)"
_LAST_GAP = "SELECT id, from_seq, to_seq FROM gap WHERE kind = ? AND boot_id = ? ORDER BY id DESC LIMIT 1"
_TRIM_GAPS = "DELETE FROM gap WHERE id <= (SELECT max(id) FROM gap) - ?"


class ForeignError(sqlite3.DatabaseError):
    """The file belongs to something else."""


def connect(path: Path, synchronous: Literal["FULL", "NORMAL"], checkpoint_pages: int) -> sqlite3.Connection:
    """Open or create the file in WAL mode, for use from any thread, one at a time."""
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        # Text that is none becomes a row that fails its checksum.
        connection.text_factory = lambda text: text.decode("utf-8", "replace")
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint_pages}")
        connection.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection) -> None:
    """Check that the file is an outbox and sound, and make its tables if it is new.

    Raises:
        ForeignError: it is a database of another kind, or of another version of this one.
        sqlite3.DatabaseError: it is damaged.
    """
    if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise DamageError("its structure is damaged")
    tables = tuple(sql for (sql,) in connection.execute(_TABLES_THERE))
    if not tables:
        with transaction(connection):
            for sql in _TABLES:
                connection.execute(sql)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_FORMAT}")
        return
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    is_marked = (application_id, version) == (APPLICATION_ID, _FORMAT)
    if is_marked != (tables == _TABLES):
        raise DamageError("its description of itself is damaged")
    if not is_marked:
        raise ForeignError("a database of another kind or version")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def told_in_words() -> Iterator[None]:
    """SQLite quotes what it stumbles over, and Python cannot always read the quotation."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DamageError("its description of itself is damaged") from error


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file's content is at fault, not its surroundings: a full disk, a missing right."""
    # CORRUPT and NOTADB have no class of their own in Python: they are the plain DatabaseError.
    if type(error) is sqlite3.OperationalError:
        return not str(error).startswith(_SURROUNDINGS)
    return type(error) in (sqlite3.DatabaseError, sqlite3.IntegrityError, DamageError)


def last_id_of(connection: sqlite3.Connection) -> int:
    """Id of the newest message ever appended."""
    (last_id,) = connection.execute(_LAST_ID).fetchone()
    return int(last_id)


def go_on_after(connection: sqlite3.Connection, last_id: int) -> None:
    """No message gets an id up to this one any more."""
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'outbox'")
    connection.execute("INSERT INTO sqlite_sequence VALUES ('outbox', ?)", (last_id,))


def insert(connection: sqlite3.Connection, rows: list[Row]) -> None:
    """Add waiting messages."""
    connection.executemany(
        _INSERT,
        [
            (row.id, m.topic, m.payload, m.qos, int(m.retain), m.kind, m.boot_id, m.seq, checksum_of_row(row))
            for row in rows
            for m in (row.message,)
        ],
    )


def insert_delivered(connection: sqlite3.Connection, delivered: list[Delivered]) -> None:
    """Add delivered verdicts, in the order of delivery."""
    connection.executemany(
        _INSERT_DELIVERED,
        [(d.removed_below, d.id, d.boot_id, d.seq, d.payload, checksum_of_delivered(d)) for d in delivered],
    )


def insert_gap(connection: sqlite3.Connection, gap: Gap) -> None:
    """Add a range; one that follows the newest of its kind and boot becomes part of it."""
    last = connection.execute(_LAST_GAP, (gap.kind, gap.boot_id)).fetchone()
    if last is not None and last[1] <= gap.from_seq <= last[2] + 1:
        gap = Gap(gap.boot_id, gap.kind, last[1], max(gap.to_seq, last[2]))
        connection.execute(
            "UPDATE gap SET to_seq = ?, checksum = ? WHERE id = ?", (gap.to_seq, checksum_of_gap(gap), last[0])
        )
        return
    connection.execute(_INSERT_GAP, (gap.boot_id, gap.kind, gap.from_seq, gap.to_seq, checksum_of_gap(gap)))
    connection.execute(_TRIM_GAPS, (_GAPS_KEPT,))
