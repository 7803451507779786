"""One process of the station, and what its witness says while it lives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from chaos.broker import RECOVERY_S
from chaos.checker import End

_CHILD = Path(__file__).with_name("child.py")
_ROOT = Path(__file__).parents[3]


class Run:
    """Started by its constructor.

    Attributes:
        process: the station.
        boot_id: empty until the station is put together.
        fired_ns: when each trigger was fired, by its id.
        durable_ns: when each verdict was durable, by `result_id`.
        latencies_ns: (moment of firing, nanoseconds until durable), in the order of the verdicts.
        judged_ns: when each verdict on a part, OK or NG, was durable.
        said: the newest lines of its standard error.
        ended: how; None while it runs.
        ended_ns: when its end was seen.
    """

    def __init__(self, config: Path, environment: Mapping[str, str]) -> None:
        self.boot_id = ""
        self.fired_ns: dict[int, int] = {}
        self.durable_ns: dict[str, int] = {}
        self.latencies_ns: list[tuple[int, int]] = []
        self.judged_ns: list[int] = []
        self.said: deque[str] = deque(maxlen=20)
        self.ended: End | None = None
        self.ended_ns = 0
        self.process = subprocess.Popen(
            [sys.executable, str(_CHILD), "run", "--config", str(config)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))),
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._witness = threading.Thread(target=self._hear_witness, daemon=True)
        self._witness.start()
        threading.Thread(target=self._hear_station, daemon=True).start()

    def note_end(self) -> None:
        """Write down how it ended, if it has."""
        status = self.process.poll()
        if status is None or self.ended is not None:
            return
        self.ended_ns = time.monotonic_ns()
        self._witness.join(RECOVERY_S)
        self.ended = "stopped" if status == 0 else "killed" if status == -signal.SIGKILL else "failed"

    def children(self) -> list[int]:
        """The processes that it started: its grabber."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        try:
            return [int(pid) for pid in path.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            return []

    def left_behind(self) -> bool:
        """Whether it has ended and a process that it started has not."""
        return self.ended is not None and _has_session(self.process.pid)

    def _hear_witness(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._take(json.loads(line))

    def _hear_station(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.said.append(line.decode(errors="replace"))

    def _take(self, said: dict[str, object]) -> None:
        moment_ns = said["ns"]
        assert isinstance(moment_ns, int)
        if said["kind"] == "boot":
            self.boot_id = str(said["id"])
        elif said["kind"] == "trigger":
            self.fired_ns[int(str(said["id"]))] = moment_ns
        elif said["kind"] == "durable":
            self.durable_ns[str(said["result_id"])] = moment_ns
            if said["boot_id"] != self.boot_id:
                return  # an answer in the name of an earlier boot
            fired_ns = self.fired_ns[int(str(said["trigger_id"]))]
            self.latencies_ns.append((fired_ns, moment_ns - fired_ns))
            if said["verdict"] in ("OK", "NG"):
                self.judged_ns.append(moment_ns)


def _has_session(session: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            return True
    return False
