"""`tfanet-edge outbox`: what waits in an outbox, and what was lost from it.

`ls`, `stats` and `export` only read, and do so beside a running station; `flush` needs the station stopped.
"""

from __future__ import annotations

import argparse
import base64
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from edge.config_file import load_config
from edge.errors import InputError
from edge.outbox import Outbox
from edge.outbox.file import told_in_words
from edge.outbox.rows import DamageError, Row, checked_gap, checked_row

_LS = "SELECT * FROM outbox ORDER BY id LIMIT ?"
_KINDS = "SELECT kind, count(*), sum(length(payload)), min(seq), max(seq) FROM outbox GROUP BY kind ORDER BY kind"
_BOOTS = (
    "SELECT boot_id, count(*), min(seq), max(seq) FROM outbox WHERE kind = 'verdict' GROUP BY boot_id ORDER BY min(id)"
)
_GAPS = "SELECT boot_id, kind, from_seq, to_seq, checksum FROM gap ORDER BY id"
_AT_ONCE = 500


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `outbox ls|stats|export|flush`."""
    parser = subparsers.add_parser("outbox", help="look into an outbox")
    actions = parser.add_subparsers(metavar="ACTION", required=True, parser_class=type(parser))
    ls = _add(actions, "ls", "the messages that wait, oldest first", _ls)
    ls.add_argument("--limit", type=int, default=20, metavar="N", help="at most so many (default: 20)")
    _add(actions, "stats", "counts, sizes, and what was given up undelivered", _stats)
    _add(actions, "export", "the messages that wait, as JSON lines on standard output", _export)
    flush = _add(
        actions, "flush", "give up everything that waits, and record the gap; the station must be stopped", _flush
    )
    flush.add_argument("--yes", action="store_true", help="really")


def _add(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    help_text: str,
    handler: object,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=help_text, description=help_text)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("path", nargs="?", type=Path, metavar="PATH", help="the outbox's file")
    where.add_argument("--config", type=Path, metavar="FILE", help="station.toml, which names it")
    parser.set_defaults(handler=handler)
    return parser


def _ls(arguments: argparse.Namespace) -> int:
    print(f"{'id':>10} {'kind':8} {'boot':26} {'seq':>10} {'bytes':>8} topic")
    with _reading(arguments) as connection:
        for columns in connection.execute(_LS, (arguments.limit,)):
            row = checked_row(columns)
            m = row.message
            print(f"{row.id:>10} {m.kind:8} {m.boot_id:26} {m.seq:>10} {len(m.payload):>8} {m.topic}")
    return 0


def _stats(arguments: argparse.Namespace) -> int:
    with _reading(arguments) as connection:
        path = _path(arguments)
        log = path.with_name(f"{path.name}-wal")
        print(f"file {path.stat().st_size} bytes, log {log.stat().st_size if log.exists() else 0} bytes")
        waiting = connection.execute(_KINDS).fetchall()
        for kind, count, size, first, last in waiting:
            print(f"waiting {kind}: {count}, {size} bytes, seq {first} to {last}")
        if not waiting:
            print("waiting: nothing")
        for boot_id, count, first, last in connection.execute(_BOOTS):
            print(f"boot {boot_id}: {count} verdicts waiting, seq {first} to {last}")
        (delivered,) = connection.execute("SELECT count(*) FROM delivered").fetchone()
        print(f"delivered and kept for replays: {delivered} verdicts")
        for gap in (checked_gap(columns) for columns in connection.execute(_GAPS)):
            print(f"given up {gap.kind}: seq {gap.from_seq} to {gap.to_seq} of boot {gap.boot_id}")
        for kept in sorted(path.parent.glob(f"{path.name}.damaged-*Z")):
            print(f"damaged file set aside: {kept.name}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    with _reading(arguments) as connection:
        for columns in connection.execute("SELECT * FROM outbox ORDER BY id"):
            json.dump(_as_json(checked_row(columns)), sys.stdout, ensure_ascii=False)
            print()
    return 0


def _as_json(row: Row) -> dict[str, object]:
    m = row.message
    fields: dict[str, object] = {
        "id": row.id, "topic": m.topic, "kind": m.kind, "boot_id": m.boot_id, "seq": m.seq,
        "qos": m.qos, "retain": m.retain,
    }  # fmt: skip
    try:
        return {**fields, "payload": json.loads(m.payload)}
    except ValueError:
        return {**fields, "payload_base64": base64.b64encode(m.payload).decode()}


def _flush(arguments: argparse.Namespace) -> int:
    path = _path(arguments)
    if not arguments.yes:
        raise InputError(f"everything that waits in '{path}' would be lost", "export it first, then add --yes")
    with closing(Outbox(path, 2**63 - 1)) as outbox:
        given_up = 0
        while rows := outbox.pending(_AT_ONCE):
            outbox.discard_many(rows)
            given_up += len(rows)
    print(f"{given_up} messages given up")
    return 0


@contextmanager
def _reading(arguments: argparse.Namespace) -> Iterator[sqlite3.Connection]:
    path = _path(arguments)
    try:
        with (
            told_in_words(),
            closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)) as connection,
        ):
            connection.text_factory = lambda text: text.decode("utf-8", "replace")
            yield connection
    except DamageError as error:
        raise InputError(
            f"outbox '{path}' is damaged ({error})", "the station salvages what it can when it starts"
        ) from error
    except sqlite3.Error as error:
        raise InputError(f"outbox '{path}' cannot be read ({error})", "give the file of a station's outbox") from error


def _path(arguments: argparse.Namespace) -> Path:
    path: Path = arguments.path if arguments.path is not None else load_config(arguments.config).outbox.path
    if not path.is_file():
        raise InputError(f"there is no outbox '{path}'", "check the path; a station makes the file when it starts")
    return path
