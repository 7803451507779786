"""`tfanet-edge` with a witness inside: it writes down what it fires and what it has made durable, and dies on demand.

    python child.py run --config station.toml

Standard output gets one JSON object per line, each handed to the system before the station goes on: in a pipe it
survives a SIGKILL. `CHAOS_CRASH=point:n` kills the process when it reaches a named point of a frame's life for the
n-th time.
`CHAOS_CLOCK` names a file of eight bytes, a signed number of nanoseconds by which the wall clock is wrong.
"""

from __future__ import annotations

import functools
import json
import mmap
import os
import signal
import sqlite3
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

POINTS = (
    "trigger_opened",
    "camera_triggered",
    "frame_taken",
    "engine_started",
    "engine_done",
    "judged",
    "composed",
    "append",
    "commit",
    "committed",
    "durable",
    "publish",
    "published",
    "acknowledged",
    "removal",
    "removed",
    "connecting",
    "connected",
)


class Witness:
    """Says what happens, and ends the process where it is told to."""

    def __init__(self, crash: str) -> None:
        # Out of reach of the station and of what it starts.
        self._file = os.dup(1)
        os.dup2(2, 1)
        self._point, _, nth = crash.partition(":")
        self._left = int(nth or 1)
        self._lock = threading.Lock()

    def note(self, kind: str, **facts: object) -> None:
        """Write one line."""
        line = json.dumps({"kind": kind, "ns": time.monotonic_ns(), **facts})
        os.write(self._file, line.encode() + b"\n")

    def reach(self, point: str) -> None:
        """Die here, if this is the time."""
        if not point or point != self._point:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self.note("crash", point=point)
                os.kill(os.getpid(), signal.SIGKILL)

    def watch(
        self, owner: type, name: str, *, before: str = "", after: str = "", then: Callable[..., None] | None = None
    ) -> None:
        """Name the moments before and after a method; `then` gets its result and arguments."""
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def watched(*args: Any, **options: Any) -> Any:
            self.reach(before)
            result = inner(*args, **options)
            if then is not None:
                then(result, *args)
            self.reach(after)
            return result

        setattr(owner, name, watched)


def watch_station(witness: Witness) -> None:
    """Name every point of a frame's life."""
    from edge.cameras.genicam import GenicamCamera
    from edge.engines.ort import OrtEngine
    from edge.mqtt.link import Link
    from edge.outbox import Message, Outbox
    from edge.pipeline import Pipeline
    from edge.report import Reporter
    from edge.station import Station
    from edge.triggers import Trigger, TriggerLedger

    def fired(trigger: Trigger, *_: object) -> None:
        witness.note("trigger", id=trigger.trigger_id)

    def made_durable(_ids: object, _outbox: Outbox, messages: list[Message], *_: object) -> None:
        for message in messages:
            if message.kind == "verdict":
                verdict = json.loads(message.payload)
                witness.note(
                    "durable",
                    result_id=verdict["result_id"],
                    boot_id=verdict["boot_id"],
                    seq=verdict["seq"],
                    trigger_id=verdict["part"]["trigger_id"],
                    verdict=verdict["verdict"],
                )

    witness.watch(Station, "__init__", then=lambda _, station, *__: witness.note("boot", id=station.boot_id))
    witness.watch(TriggerLedger, "open", after="trigger_opened", then=fired)
    witness.watch(GenicamCamera, "trigger", after="camera_triggered")
    witness.watch(Pipeline, "_take", before="frame_taken")
    witness.watch(OrtEngine, "enqueue", after="engine_started")
    witness.watch(Pipeline, "_decide", before="engine_done", after="judged")
    witness.watch(Reporter, "compose", after="composed")
    witness.watch(Outbox, "append_many", before="append", after="durable", then=made_durable)
    witness.watch(Link, "send", before="publish", after="published")
    witness.watch(Link, "_on_publish", before="acknowledged")
    witness.watch(Link, "__init__", before="connecting", after="connected")


def watch_commits(witness: Witness) -> None:
    """Name the moments around a transaction's end: the line's thread appends, the publisher's removes."""

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
            if sql != "COMMIT":
                return super().execute(sql, *arguments)
            is_line = threading.current_thread() is threading.main_thread()
            witness.reach("commit" if is_line else "removal")
            cursor = super().execute(sql)
            witness.reach("committed" if is_line else "removed")
            return cursor

    sqlite3.connect = functools.partial(sqlite3.connect, factory=Watched)  # type: ignore[assignment]


def bend_clock(path: str) -> None:
    """Let the wall clock be wrong by what the file says at any moment."""
    with open(path, "rb") as file:
        wrong_by = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    true_ns = time.time_ns

    def time_ns() -> int:
        return true_ns() + int(struct.unpack("<q", wrong_by[:8])[0])

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9


def main() -> int:
    """Run the verb."""
    witness = Witness(os.environ.get("CHAOS_CRASH", ""))
    watch_commits(witness)
    if "CHAOS_CLOCK" in os.environ:
        bend_clock(os.environ["CHAOS_CLOCK"])
    watch_station(witness)
    from edge import cli

    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
