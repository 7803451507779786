"""What an outbox holds, and the checksum that every row of it carries.

SQLite notices a torn page by its structure but not by its content. A row that fails its checksum is damage, never a
message.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

Kind = Literal["verdict", "plc", "mask", "event"]


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
