"""Processes run one at a time, with what each took, and not again when nothing changed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def run_process(command: Sequence[object], out: Path, threads: int) -> tuple[float, int]:
    """Run to the end on the CPU with its messages in a log beside `out`; seconds and peak memory in bytes.

    Raises:
        SystemExit: it failed; names the log.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    print(" ".join(words), file=sys.stderr)
    started_s = time.perf_counter()
    with out.with_suffix(".log").open("a") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode}, see {log.name}")
    return time.perf_counter() - started_s, usage.ru_maxrss * 1024


def was_run(out: Path, command: Sequence[object]) -> bool:
    """Whether `out` was made by this very command, as `note_run` says."""
    note = _note(out)
    return out.is_file() and note.is_file() and note.read_text() == " ".join(map(str, command))


def note_run(out: Path, command: Sequence[object]) -> None:
    """Keep which command made `out`."""
    _note(out).write_text(" ".join(map(str, command)))


def _note(out: Path) -> Path:
    return out.with_suffix(".command")
