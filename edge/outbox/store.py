"""Keeps the outbox's file open: one process at a time, its log short, and sound.

Damage to the file is noticed when it is opened, when a row is read, and when SQLite stumbles over it. It is answered
on the spot: what can be read moves into a new file (edge.outbox.salvage), and the call that met it is tried again.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TypeVar

from edge.errors import OutboxError
from edge.outbox.file import connect, is_damage, last_id_of, prepare, told_in_words
from edge.outbox.rows import DamageError
from edge.outbox.salvage import Salvage, finish, lost_in_log, read_file, salvage, wal_of

# An append checkpoints only as a backstop, when the thread that is there for it falls behind.
_WRITER_CHECKPOINT_PAGES = 20_000
_CHECKPOINT_EVERY_ROWS = 500

T = TypeVar("T")


class Store:
    """The open file, with a connection whose commits are synced and one whose commits are not.

    Attributes:
        writer: synchronous=FULL; within `attempt` only, and so is `reader`.
        reader: synchronous=NORMAL.
        salvage: the newest damage that was mended.
    """

    writer: sqlite3.Connection
    reader: sqlite3.Connection

    def __init__(self, path: Path, on_open: Callable[[sqlite3.Connection], None]) -> None:
        """Open or create the file.

        Args:
            path: the database; its directory must exist.
            on_open: called with a connection whenever the file's content may be another: now, and when it was mended.

        Raises:
            OutboxError: not an outbox, in use by another process, not writable, or no room to mend a damaged one.
        """
        self.salvage: Salvage | None = None
        self._path = path
        self._on_open = on_open
        self._lock = threading.Lock()  # waits microseconds where SQLite's own busy handler would sleep
        self._checkpointing = threading.Lock()
        self._due = threading.Event()
        self._ended = False
        self._moved = 0
        self._connections = ExitStack()
        with self._told_as("cannot be opened"), ExitStack() as opened:
            opened.callback(os.close, _locked(path))
            finish(path)
            opened.callback(self._disconnect)
            self._open()
            self._close = opened.pop_all().close
        self._housekeeper = threading.Thread(target=self._keep_log_short, name="outbox", daemon=True)
        self._housekeeper.start()

    def close(self) -> None:
        """Close the file; `attempt` raises OutboxError from now on."""
        self._ended = True
        self._due.set()
        self._housekeeper.join()
        self._close()

    def attempt(self, what: str, work: Callable[[], T]) -> T:
        """Do something with the connections, and once more if the file had to be mended.

        Raises:
            OutboxError: the file `what`, for example "cannot be read".
        """
        with self._told_as(what), self._lock:
            try:
                with told_in_words():
                    return work()
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
                # Both before the file is closed, for then SQLite writes the log back without a check.
                self._mend(read_file(self._path), read_file(wal_of(self._path)), str(error))
            return work()

    def count_moved(self, rows: int) -> None:
        """So many rows came or went: now and then the log is written back, in a thread of its own."""
        self._moved += rows
        if self._moved >= _CHECKPOINT_EVERY_ROWS:
            self._moved = 0
            self._due.set()

    def _open(self) -> None:
        wal = read_file(wal_of(self._path))
        try:
            if self._path.stat().st_size == 0 if self._path.exists() else wal:
                raise DamageError("the file is empty")
            with told_in_words():
                self._connect(wal)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            self._mend(read_file(self._path), wal, str(error))

    def _connect(self, wal: bytes) -> None:
        with ExitStack() as opened:
            self.writer = opened.enter_context(closing(connect(self._path, "FULL", _WRITER_CHECKPOINT_PAGES)))
            _, frames_used, _ = self.writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            prepare(self.writer)
            if wal and lost_in_log(wal, frames_used, last_id_of(self.writer)):
                raise DamageError("its log is damaged")
            self._on_open(self.writer)
            self.reader = opened.enter_context(closing(connect(self._path, "NORMAL", 0)))
            self._checkpointer = opened.enter_context(closing(connect(self._path, "NORMAL", 0)))
            self._connections = opened.pop_all()

    def _mend(self, database: bytes, wal: bytes, problem: str) -> None:
        with self._checkpointing:
            self._disconnect()
            self.salvage = salvage(self._path, database, wal, problem)
            self._connect(b"")

    def _disconnect(self) -> None:
        self._connections.close()

    def _keep_log_short(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            if self._ended:
                return
            with self._checkpointing:
                try:
                    self._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                except sqlite3.Error:
                    continue  # whoever appends or reads next meets the same, and can tell

    @contextmanager
    def _told_as(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise OutboxError(
                f"outbox '{self._path}' {what} ({error})",
                "check that the directory exists, is writable and has room, and that no other station uses the file",
            ) from error


def _locked(path: Path) -> int:
    """A descriptor that keeps other processes from opening the same outbox; it goes with the process."""
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
