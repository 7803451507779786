"""Where messages wait, on disk, until the broker has acknowledged them.

SQLite in WAL mode. An append is one transaction with one fsync (synchronous=FULL); removals are not synced, since a
removal that is lost to a power cut only means a message delivered twice, which consumers sort out by `result_id`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.errors import OutboxError

Kind = Literal["verdict", "plc", "mask", "event"]

_BUSY_TIMEOUT_S = 5.0
_GAPS_KEPT = 1000
# The station's own commits checkpoint only as a backstop while nothing is delivered; the reader's do it otherwise.
_WRITER_CHECKPOINT_PAGES = 10_000
_READER_CHECKPOINT_PAGES = 1000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL,
    retain INTEGER NOT NULL, kind TEXT NOT NULL, boot_id TEXT NOT NULL, seq INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS outbox_expendable ON outbox (id) WHERE kind <> 'verdict';
CREATE TABLE IF NOT EXISTS gap (
    id INTEGER PRIMARY KEY, boot_id TEXT NOT NULL, kind TEXT NOT NULL,
    from_seq INTEGER NOT NULL, to_seq INTEGER NOT NULL);
"""
_INSERT = "INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM outbox WHERE id = ?"
_PENDING = "SELECT * FROM outbox WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
_EXPENDABLE = "SELECT id, kind, boot_id, seq FROM outbox WHERE kind <> 'verdict' ORDER BY id LIMIT ?"
_LAST_GAP = "SELECT id, to_seq FROM gap WHERE kind = ? AND boot_id = ? ORDER BY id DESC LIMIT 1"
_OLDEST = "SELECT id, kind, boot_id, seq FROM outbox WHERE kind = 'verdict' ORDER BY id LIMIT ?"


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
class Gap:
    """Messages of one kind that were dropped undelivered: `from_seq` to `to_seq`, both included."""

    boot_id: str
    kind: str
    from_seq: int
    to_seq: int


class Outbox:
    """A durable queue between one thread that appends and one that delivers.

    `append` and `append_many` belong to the first; `pending`, `remove`, `discard` and `gaps` to the second.
    """

    def __init__(self, path: Path, max_rows: int) -> None:
        """Open or create the file; what an earlier run left undelivered is still there.

        Args:
            path: the database; its directory must exist.
            max_rows: beyond it, the oldest masks and other companions are dropped, then the oldest verdicts.

        Raises:
            OutboxError: not a database, damaged, or not writable.
        """
        self._path = path
        self._max_rows = max_rows
        self._on_append: Callable[[], None] = lambda: None
        self._writing = threading.Lock()  # waits microseconds where SQLite's own busy handler would sleep
        self._count: int
        self._last_id: int
        self._dropped = 0
        with self._told_as("cannot be opened"), ExitStack() as opened:
            self._writer = opened.enter_context(closing(self._connect("FULL", _WRITER_CHECKPOINT_PAGES)))
            self._writer.executescript(_SCHEMA)
            if self._writer.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("its content is damaged")
            self._count, self._last_id = self._writer.execute(
                "SELECT count(*), ifnull(max(id), 0) FROM outbox"
            ).fetchone()
            self._reader = opened.enter_context(closing(self._connect("NORMAL", _READER_CHECKPOINT_PAGES)))
            self._close = opened.pop_all().close

    def close(self) -> None:
        """Close the file. Further calls raise OutboxError."""
        self._close()

    def on_append(self, callback: Callable[[], None]) -> None:
        """Have `callback` called in the appending thread after each commit; it must return at once."""
        self._on_append = callback

    @property
    def dropped(self) -> int:
        """Messages dropped since the file was opened because the outbox was full."""
        return self._dropped

    @property
    def last_id(self) -> int:
        """Id of the newest message ever appended."""
        return self._last_id

    def count(self) -> int:
        """Messages waiting."""
        return self._count

    def append(self, topic: str, payload: bytes, *, qos: int, retain: bool, kind: Kind, boot_id: str, seq: int) -> int:
        """Append one message; it is on disk when this returns. Returns its id.

        Raises:
            OutboxError: it could not be written; nothing was.
        """
        return self.append_many([Message(topic, payload, qos, retain, kind, boot_id, seq)])[0]

    def append_many(self, messages: Sequence[Message]) -> list[int]:
        """Append messages in one transaction, all or none; they are on disk when this returns. Returns their ids.

        Raises:
            OutboxError: they could not be written; none was.
        """
        first_id = self._last_id + 1
        rows = [
            (id_, m.topic, m.payload, m.qos, m.retain, m.kind, m.boot_id, m.seq)
            for id_, m in enumerate(messages, first_id)
        ]
        with self._told_as("cannot be written"), self._writing:
            with _transaction(self._writer):
                self._writer.executemany(_INSERT, rows)
                dropped = self._drop(self._count + len(rows) - self._max_rows)
            self._count += len(rows) - dropped
        self._last_id += len(rows)
        self._dropped += dropped
        self._on_append()
        return list(range(first_id, first_id + len(rows)))

    def pending(self, limit: int, after: int = 0, up_to: int = 2**63 - 1) -> list[Row]:
        """The oldest waiting messages with `after < id <= up_to`, at most `limit`, in the order of appending.

        Raises:
            OutboxError: the file cannot be read.
        """
        with self._told_as("cannot be read"):
            found = self._reader.execute(_PENDING, (after, up_to, limit)).fetchall()
        return [
            Row(id_, Message(topic, payload, qos, bool(retain), kind, boot_id, seq))
            for id_, topic, payload, qos, retain, kind, boot_id, seq in found
        ]

    def remove(self, ids: Iterable[int]) -> None:
        """Forget delivered messages; ids that are gone already are fine.

        Raises:
            OutboxError: the file cannot be written.
        """
        with self._told_as("cannot be written"), self._writing:
            with _transaction(self._reader):
                removed = sum(self._reader.execute(_DELETE, (id_,)).rowcount for id_ in ids)
            self._count -= removed

    def discard(self, row: Row) -> None:
        """Give a message up: removed, and recorded as a gap.

        Raises:
            OutboxError: the file cannot be written.
        """
        message = row.message
        with self._told_as("cannot be written"), self._writing:
            with _transaction(self._reader):
                removed = self._reader.execute(_DELETE, (row.id,)).rowcount
                _record_gap(self._reader, message.kind, message.boot_id, message.seq)
            self._count -= removed

    def gaps(self) -> list[Gap]:
        """What was dropped, oldest first; the newest 1000 ranges are kept.

        Raises:
            OutboxError: the file cannot be read.
        """
        with self._told_as("cannot be read"):
            found = self._reader.execute("SELECT boot_id, kind, from_seq, to_seq FROM gap ORDER BY id").fetchall()
        return [Gap(*row) for row in found]

    def _connect(self, synchronous: Literal["FULL", "NORMAL"], checkpoint_pages: int) -> sqlite3.Connection:
        with ExitStack() as opened:
            connection = opened.enter_context(
                closing(
                    sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
                )
            )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint_pages}")
            opened.pop_all()
        return connection

    def _drop(self, excess: int) -> int:
        if excess <= 0:
            return 0
        victims = self._writer.execute(_EXPENDABLE, (excess,)).fetchall()
        victims += self._writer.execute(_OLDEST, (excess - len(victims),)).fetchall()
        for id_, kind, boot_id, seq in victims:
            self._writer.execute(_DELETE, (id_,))
            _record_gap(self._writer, kind, boot_id, seq)
        return len(victims)

    @contextmanager
    def _told_as(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise OutboxError(
                f"outbox '{self._path}' {what} ({error})",
                "check that the directory exists, is writable and has room; move a damaged file away",
            ) from error


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _record_gap(connection: sqlite3.Connection, kind: str, boot_id: str, seq: int) -> None:
    last = connection.execute(_LAST_GAP, (kind, boot_id)).fetchone()
    if last is not None and last[1] in (seq - 1, seq):
        connection.execute("UPDATE gap SET to_seq = ? WHERE id = ?", (seq, last[0]))
        return
    connection.execute("INSERT INTO gap VALUES (NULL, ?, ?, ?, ?)", (boot_id, kind, seq, seq))
    connection.execute("DELETE FROM gap WHERE id <= (SELECT max(id) FROM gap) - ?", (_GAPS_KEPT,))
