"""The outbox's file: its tables, its connections, and the checksum that every row carries.

SQLite notices a torn page by its structure but not by its content, so each row has a checksum of its own. A row that
fails it is damage, never a message.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

Kind = Literal["verdict", "plc", "mask", "event"]

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


@dataclass(frozen=True, slots=True)
class Message:
    """Something to publish, and which verdict it belongs to."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    kind: Kind
    boot_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class Row:
    """A message in the outbox; ids grow in the order of appending."""

    id: int
    message: Message


@dataclass(frozen=True, slots=True)
class Delivered:
    """A verdict that the broker has acknowledged.

    Attributes:
        removed_below: every row with a smaller id had left the outbox by then.
        id: the row it was.
        boot_id, seq, payload: as in its message.
    """

    removed_below: int
    id: int
    boot_id: str
    seq: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages of one kind that were given up undelivered: `from_seq` to `to_seq`, both included."""

    boot_id: str
    kind: str
    from_seq: int
    to_seq: int


class DamageError(sqlite3.DatabaseError):
    """A row fails its checksum, or the file is not what it was."""


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


def checked_row(columns: tuple[object, ...]) -> Row:
    """The message in a row of the table `outbox`.

    Raises:
        DamageError: it fails its checksum.
    """
    id_, topic, payload, qos, retain, kind, boot_id, seq, checksum = columns
    row = Row(id_, Message(topic, payload, qos, retain == 1, kind, boot_id, seq))  # type: ignore[arg-type]
    if not isinstance(payload, bytes) or checksum != checksum_of_row(row):
        raise DamageError(f"row {id_} fails its checksum")
    return row


def checked_delivered(columns: tuple[object, ...]) -> Delivered:
    """The verdict in a row of the table `delivered`, without its number.

    Raises:
        DamageError: it fails its checksum.
    """
    delivered = Delivered(*columns[:5])  # type: ignore[arg-type]
    if not isinstance(delivered.payload, bytes) or columns[5] != checksum_of_delivered(delivered):
        raise DamageError(f"the delivered row {delivered.id} fails its checksum")
    return delivered


def checked_gap(columns: tuple[object, ...]) -> Gap:
    """The range in a row of the table `gap`, without its id.

    Raises:
        DamageError: it fails its checksum.
    """
    gap = Gap(*columns[:4])  # type: ignore[arg-type]
    if columns[4] != checksum_of_gap(gap):
        raise DamageError("a gap fails its checksum")
    return gap


def checksum_of_row(row: Row) -> bytes:
    """Of everything in it."""
    m = row.message
    return _checksum((row.id, m.topic, m.qos, int(m.retain), m.kind, m.boot_id, m.seq), m.payload)


def checksum_of_delivered(delivered: Delivered) -> bytes:
    """Of everything in it."""
    return _checksum((delivered.removed_below, delivered.id, delivered.boot_id, delivered.seq), delivered.payload)


def checksum_of_gap(gap: Gap) -> bytes:
    """Of everything in it."""
    return _checksum((gap.boot_id, gap.kind, gap.from_seq, gap.to_seq), b"")


def _checksum(fields: tuple[object, ...], payload: bytes) -> bytes:
    return blake2b(ascii(fields).encode() + payload, digest_size=8).digest()
