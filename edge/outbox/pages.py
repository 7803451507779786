"""Reads an outbox's rows out of the bare pages of a SQLite file and its write-ahead log, whatever else is broken.

Every leaf page of a table is read wherever it lies, without the tree above it; a row counts when it passes its
checksum. Layout: https://www.sqlite.org/fileformat2.html. Pages that are no longer in use are read too, so rows may
come up that had been removed: the caller sorts them out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from edge.outbox.file import PAGE_BYTES
from edge.outbox.rows import DamageError, Delivered, Gap, Row, checked_delivered, checked_gap, checked_row

WAL_HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
_FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES
_LEAF = 0x0D
_PAGE_HEADER_BYTES = 8
_MAX_LOCAL = PAGE_BYTES - 35
_MIN_LOCAL = (PAGE_BYTES - 12) * 32 // 255 - 23
_PAYLOAD_LIMIT_BYTES = 64_000_000
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}

Chains = tuple[dict[int, int], dict[int, int]]


@dataclass(slots=True)
class Findings:
    """Rows that pass their checksums."""

    rows: dict[int, Row] = field(default_factory=dict)
    delivered: dict[int, Delivered] = field(default_factory=dict)
    gaps: set[Gap] = field(default_factory=set)

    @property
    def removed_below(self) -> int:
        """Rows with smaller ids had left the outbox."""
        return max((item.removed_below for item in self.delivered.values()), default=0)


def find_rows(database: bytes, wal: bytes) -> Findings:
    """Everything that can be read.

    Args:
        database: the file.
        wal: its write-ahead log; may be empty.
    """
    found = Findings()
    content = memoryview(database + bytes(-len(database) % PAGE_BYTES) + wal)
    frames_start = len(database) + -len(database) % PAGE_BYTES + WAL_HEADER_BYTES
    in_file = {number + 1: start for number, start in enumerate(range(0, len(database), PAGE_BYTES))}
    newest = dict(in_file)
    starts = list(in_file.values())
    for frame in range(frames_start, len(content) - _FRAME_BYTES + 1, _FRAME_BYTES):
        newest[int.from_bytes(content[frame : frame + 4], "big")] = frame + FRAME_HEADER_BYTES
        starts.append(frame + FRAME_HEADER_BYTES)
    for start in starts:
        for rowid, record in _records(content, start, (newest, in_file)):
            _keep(found, rowid, record)
    return found


def _records(content: memoryview, start: int, chains: Chains) -> Iterator[tuple[int, bytes]]:
    """Row ids and records of one page; a record whose overflow pages have two versions comes twice."""
    page = content[start : start + PAGE_BYTES]
    if page[0] != _LEAF:
        return
    (cells,) = struct.unpack_from(">H", page, 3)
    for index in range(min(cells, (PAGE_BYTES - _PAGE_HEADER_BYTES) // 2)):
        (at,) = struct.unpack_from(">H", page, _PAGE_HEADER_BYTES + 2 * index)
        try:
            size, at = _varint(page, at)
            rowid, at = _varint(page, at)
        except IndexError:
            continue
        if size <= _MAX_LOCAL:
            yield rowid, bytes(page[at : at + size])
        elif size <= _PAYLOAD_LIMIT_BYTES:
            for chain in chains:
                yield rowid, _with_overflow(content, page, at, size, chain)


def _with_overflow(content: memoryview, page: memoryview, at: int, size: int, chain: dict[int, int]) -> bytes:
    local = _MIN_LOCAL + (size - _MIN_LOCAL) % (PAGE_BYTES - 4)
    local = local if local <= _MAX_LOCAL else _MIN_LOCAL
    parts = [bytes(page[at : at + local])]
    next_page = int.from_bytes(page[at + local : at + local + 4], "big")
    missing = size - local
    while missing > 0 and next_page in chain:
        overflow = content[chain[next_page] : chain[next_page] + PAGE_BYTES]
        next_page = int.from_bytes(overflow[:4], "big")
        parts.append(bytes(overflow[4 : 4 + missing]))
        missing -= PAGE_BYTES - 4
    return b"".join(parts)


def _keep(found: Findings, rowid: int, record: bytes) -> None:
    try:
        columns = _columns(record)
        if len(columns) == 9:
            row = checked_row((rowid, *columns[1:]))
            found.rows[row.id] = row
        elif len(columns) == 7:
            delivered = checked_delivered(columns[1:])
            found.delivered[rowid] = delivered
        elif len(columns) == 6:
            found.gaps.add(checked_gap(columns[1:]))
    except (DamageError, IndexError):
        return


def _columns(record: bytes) -> tuple[object, ...]:
    """The values of a record.

    Raises:
        IndexError: it is shorter than it says.
    """
    at, header_end = 0, 0
    header_end, at = _varint(record, at)
    kinds = []
    while at < header_end:
        kind, at = _varint(record, at)
        kinds.append(kind)
    values: list[object] = []
    at = header_end
    for kind in kinds:
        length = (kind - 12) // 2 if kind >= 12 else _INTEGER_BYTES.get(kind, 8 if kind == 7 else 0)
        raw = record[at : at + length]
        if len(raw) != length:
            raise IndexError(length)
        at += length
        values.append(_value(kind, raw))
    return tuple(values)


def _value(kind: int, raw: bytes) -> object:
    if kind >= 12:
        return raw.decode("utf-8", "replace") if kind % 2 else raw
    if kind in _INTEGER_BYTES:
        return int.from_bytes(raw, "big", signed=True)
    return {8: 0, 9: 1}.get(kind)


def _varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """A variable-length integer and where it ends.

    Raises:
        IndexError: the data end before it does.
    """
    value = 0
    for index in range(8):
        byte = data[at + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + index + 1
    return value << 8 | data[at + 8], at + 9
