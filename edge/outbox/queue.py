"""The outbox as a queue: appended to at one end, delivered from the other.

SQLite in WAL mode. An append is one transaction with one fsync (synchronous=FULL); removals are not synced, since a
removal that is lost to a power cut only means a message delivered twice, which consumers sort out by `result_id`.
The log is written back to the database in a thread of its own, so that an append hardly ever pays for it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from edge.outbox.file import insert, insert_delivered, insert_gap, last_id_of, transaction
from edge.outbox.rows import Delivered, Gap, Kind, Message, Row, checked_delivered, checked_gap, checked_row
from edge.outbox.salvage import Salvage
from edge.outbox.store import Store

_PENDING = "SELECT * FROM outbox WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
_NEWEST = "SELECT * FROM outbox WHERE kind = 'verdict' ORDER BY id DESC"
_ONE = "SELECT * FROM outbox WHERE id = ?"
_DELETE = "DELETE FROM outbox WHERE id = ?"
_EXPENDABLE = "SELECT id, kind, boot_id, seq, length(payload) FROM outbox WHERE kind <> 'verdict' ORDER BY id"
_OLDEST = "SELECT id, kind, boot_id, seq, length(payload) FROM outbox WHERE kind = 'verdict' ORDER BY id"
_SIZE = "SELECT count(*), ifnull(sum(length(payload)), 0) FROM outbox"
_FORGET = "DELETE FROM delivered WHERE number <= (SELECT max(number) FROM delivered) - ?"
_DELIVERED = (
    "SELECT removed_below, id, boot_id, seq, payload, checksum FROM delivered"
    " WHERE boot_id = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?"
)
_GAPS = "SELECT boot_id, kind, from_seq, to_seq, checksum FROM gap ORDER BY id"


class Outbox:
    """A durable queue between one thread that appends and one that delivers.

    `append` and `append_many` belong to the first; `pending`, `remove`, `discard`, `delivered` and `gaps` to the
    second. Every method raises OutboxError when the file cannot be read or written; nothing has changed then.
    """

    def __init__(
        self, path: Path, max_rows: int, *, max_bytes: int = 1_000_000_000, delivered_rows: int = 10_000
    ) -> None:
        """Open or create the file; what an earlier run left undelivered is still there.

        Args:
            path: the database; its directory must exist.
            max_rows: beyond it, the oldest masks and other companions are dropped, then the oldest verdicts.
            max_bytes: the same for the sum of the payloads.
            delivered_rows: verdicts kept after their delivery, for replays; the latest delivered ones.

        Raises:
            OutboxError: not an outbox, in use by another process, not writable, or no room to mend a damaged one.
        """
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._delivered_rows = delivered_rows
        self._on_append: Callable[[], None] = lambda: None
        self._count = self._bytes = self._last_id = self._dropped = 0
        self._store = Store(path, self._measure)

    def close(self) -> None:
        """Close the file. Further calls raise OutboxError."""
        self._store.close()

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

    @property
    def salvage(self) -> Salvage | None:
        """The newest damage that was mended since the file was opened, or while it was."""
        return self._store.salvage

    def count(self) -> int:
        """Messages waiting."""
        return self._count

    def append(self, topic: str, payload: bytes, *, qos: int, retain: bool, kind: Kind, boot_id: str, seq: int) -> int:
        """Append one message; it is on disk when this returns. Returns its id."""
        return self.append_many([Message(topic, payload, qos, retain, kind, boot_id, seq)])[0]

    def append_many(self, messages: Sequence[Message]) -> list[int]:
        """Append messages in one transaction, all or none; they are on disk when this returns. Returns their ids."""

        def work() -> list[int]:
            rows = [Row(id_, message) for id_, message in enumerate(messages, self._last_id + 1)]
            size = sum(len(message.payload) for message in messages)
            with transaction(self._store.writer):
                insert(self._store.writer, rows)
                dropped, dropped_bytes = self._drop(
                    self._count + len(rows) - self._max_rows, self._bytes + size - self._max_bytes
                )
            self._count += len(rows) - dropped
            self._bytes += size - dropped_bytes
            self._last_id += len(rows)
            self._dropped += dropped
            self._store.count_moved(len(rows))
            return [row.id for row in rows]

        ids = self._store.attempt("cannot be written", work)
        self._on_append()
        return ids

    def pending(self, limit: int, after: int = 0, up_to: int = 2**63 - 1) -> list[Row]:
        """The oldest waiting messages with `after < id <= up_to`, at most `limit`, in the order of appending."""

        def work() -> list[Row]:
            return [checked_row(row) for row in self._store.reader.execute(_PENDING, (after, up_to, limit)).fetchall()]

        return self._store.attempt("cannot be read", work)

    def remove(self, ids: Iterable[int]) -> None:
        """Move delivered messages out; ids that are gone already are fine. Verdicts are remembered for a while."""
        ids = list(ids)

        def work() -> None:
            with transaction(self._store.reader):
                rows = [checked_row(row) for id_ in ids for row in self._store.reader.execute(_ONE, (id_,)).fetchall()]
                self._store.reader.executemany(_DELETE, [(row.id,) for row in rows])
                (oldest,) = self._store.reader.execute("SELECT min(id) FROM outbox").fetchone()
                removed_below = self._last_id + 1 if oldest is None else oldest
                insert_delivered(
                    self._store.reader,
                    [
                        Delivered(removed_below, row.id, m.boot_id, m.seq, m.payload)
                        for row in rows
                        for m in (row.message,)
                        if m.kind == "verdict"
                    ],
                )
                self._store.reader.execute(_FORGET, (self._delivered_rows,))
            self._forget(rows)

        self._store.attempt("cannot be written", work)

    def discard(self, row: Row) -> None:
        """Give a message up: removed, and recorded as a gap."""
        self.discard_many([row])

    def discard_many(self, rows: Sequence[Row]) -> None:
        """Give messages up in one transaction; those that are gone already are no gap."""

        def work() -> None:
            gone = []
            with transaction(self._store.reader):
                for row in rows:
                    if self._store.reader.execute(_DELETE, (row.id,)).rowcount:
                        m = row.message
                        insert_gap(self._store.reader, Gap(m.boot_id, m.kind, m.seq, m.seq))
                        gone.append(row)
            self._forget(gone)

        self._store.attempt("cannot be written", work)

    def delivered(self, boot_id: str, from_seq: int, to_seq: int, limit: int) -> list[Delivered]:
        """Delivered verdicts that are still remembered, by sequence number, at most `limit`."""

        def work() -> list[Delivered]:
            found = self._store.reader.execute(_DELIVERED, (boot_id, from_seq, to_seq, limit)).fetchall()
            return [checked_delivered(row) for row in found]

        return self._store.attempt("cannot be read", work)

    def verdicts(self, boot_id: str, from_seq: int) -> list[bytes]:
        """Payloads of a boot's verdicts from a number on: those that wait and those that are still remembered.

        Of those that wait, only if no other boot's came after them.
        """

        def work() -> list[bytes]:
            payloads = []
            for columns in self._store.reader.execute(_NEWEST):
                message = checked_row(columns).message
                if message.boot_id != boot_id or message.seq < from_seq:
                    break
                payloads.append(message.payload)
            found = self._store.reader.execute(_DELIVERED, (boot_id, from_seq, 2**63 - 1, -1))
            return payloads + [checked_delivered(columns).payload for columns in found]

        return self._store.attempt("cannot be read", work)

    def gaps(self) -> list[Gap]:
        """What was given up, oldest first; the newest 1000 ranges are kept."""
        return self._store.attempt(
            "cannot be read", lambda: [checked_gap(gap) for gap in self._store.reader.execute(_GAPS)]
        )

    def _measure(self, connection: sqlite3.Connection) -> None:
        self._count, self._bytes = connection.execute(_SIZE).fetchone()
        self._last_id = max(self._last_id, last_id_of(connection))

    def _forget(self, rows: Sequence[Row]) -> None:
        self._count -= len(rows)
        self._bytes -= sum(len(row.message.payload) for row in rows)
        self._store.count_moved(len(rows))

    def _drop(self, excess_rows: int, excess_bytes: int) -> tuple[int, int]:
        """Make room, companions first. Returns messages and bytes dropped."""
        victims: list[tuple[int, Gap, int]] = []
        for query in (_EXPENDABLE, _OLDEST):
            for id_, kind, boot_id, seq, size in self._store.writer.execute(query):
                if excess_rows <= 0 and excess_bytes <= 0:
                    break
                victims.append((id_, Gap(boot_id, kind, seq, seq), size))
                excess_rows -= 1
                excess_bytes -= size
        for id_, gap, _ in victims:
            self._store.writer.execute(_DELETE, (id_,))
            insert_gap(self._store.writer, gap)
        return len(victims), sum(size for *_, size in victims)
