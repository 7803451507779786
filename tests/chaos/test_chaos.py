"""A station under faults. `CHAOS_SECONDS` says for how long, `CHAOS_SEED` which; a failure names its seed."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from chaos.broker import find_mosquitto
from chaos.child import POINTS
from chaos.faults import crash_at, inflict, schedule
from chaos.proxy import BLACK_HOLE, FAIR
from chaos.rig import Rig

VERDICTS = "SELECT payload FROM outbox WHERE kind = 'verdict'"
SECONDS = float(os.environ.get("CHAOS_SECONDS", "2"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))


@pytest.fixture
def rig(tmp_path, read_only_bundle_dir):
    if find_mosquitto() is None:
        pytest.skip("needs the program mosquitto")
    with Rig(tmp_path, read_only_bundle_dir) as rig:
        rig.start()
        rig.await_judged(0)
        yield rig


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 120)
def test_random_faults_break_no_promise(rig):
    print(f"CHAOS_SEED={SEED}")
    inflict(rig, SEED, SECONDS, longest_s=0.4)
    report = rig.finish()
    print(report)
    assert report.violations == []
    assert report.lost == 0
    assert report.verdicts == report.triggers


def test_killed_with_a_backlog_it_delivers_the_backlog_after_the_restart(rig):
    """Between the commit and the broker, again and again, with a broker that answers nothing."""
    rig.proxy.set(BLACK_HOLE)
    rig.proxy.cut()
    time.sleep(0.2)
    rig.end(signal.SIGKILL)
    for point in ("committed", "commit"):
        crash_at(point, 5, within_s=20.0).start(rig)
        durable = {result_id for run in rig.runs for result_id in run.durable_ns}
        assert durable <= on_disk(rig) | {delivery.result_id for delivery in rig.consumer.deliveries}
    rig.start()
    rig.await_judged(time.monotonic_ns())
    arrived = len(rig.consumer.deliveries)
    rig.proxy.set(FAIR)
    report = rig.finish()
    assert report.violations == []
    assert report.verdicts > arrived
    assert [run.ended for run in rig.runs] == ["killed", "killed", "killed", "stopped"]


def on_disk(rig: Rig) -> set[str]:
    """The verdicts in a copy of the outbox, taken as the next start would find it."""
    copies = [
        Path(shutil.copy(file, rig.directory / f"copy-{file.name}")) for file in rig.outbox.parent.glob("outbox.*")
    ]
    with closing(sqlite3.connect(min(copies))) as copy:
        return {json.loads(row[0])["result_id"] for row in copy.execute(VERDICTS)}


def test_the_checker_sees_a_station_that_loses_its_outbox(rig):
    rig.proxy.set(BLACK_HOLE)
    rig.proxy.cut()
    time.sleep(0.2)
    rig.await_judged(time.monotonic_ns())
    rig.end(signal.SIGKILL)
    for file in rig.directory.glob("outbox.sqlite*"):
        file.unlink()
    rig.proxy.set(FAIR)
    assert rig.report().lost > 0


def test_a_schedule_is_its_seed_and_leaves_nothing_out():
    steps = schedule(7, 1.0)
    first = [next(steps) for _ in range(60)]
    again = schedule(7, 1.0)
    assert first == [next(again) for _ in range(60)]
    named = {name for step in first for name in step.names}
    assert {f"crash at {point}" for point in POINTS} <= named
    assert {"broker killed", "disk full", "clock an hour behind", "camera offline", "black hole"} <= named


def test_a_station_that_may_write_nothing_comes_back_when_there_is_room_again(rig):
    rig.limit(resource.RLIMIT_FSIZE, 0)
    time.sleep(0.2)
    rig.limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
    rig.await_judged(time.monotonic_ns())
    assert rig.finish().violations == []
