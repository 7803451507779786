"""A whole station on a simulated camera and a real broker, and what it does when either goes away."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from urllib.request import urlopen

import cv2
import numpy as np
import pytest
from harness import BAD, GOOD, Consumer, check_complete, until

from edge.config import (
    FolderConfig,
    GenicamConfig,
    TriggerConfig,
)
from edge.startup import open_dashboard, open_station
from simulator.build import build


def test_parts_are_told_apart_and_every_message_keeps_its_schema(make_line, validators):
    line = make_line().start()
    until(lambda: len(line.consumer.verdicts) >= 20, "20 verdicts")
    line.end()
    check_complete(line, validators)
    kinds = [verdict["verdict"] for verdict in line.consumer.verdicts]
    assert kinds[:20] == ["OK", "NG"] * 10
    defect = line.consumer.verdicts[1]["defects"][0]
    assert defect["bbox"] == pytest.approx([140, 80, 20, 40], abs=2)
    assert line.consumer.states[0] == "Preoperational"
    assert line.consumer.states[-2:] == ["ContinuousExecution", "Halted"]
    (meta,) = line.consumer.of(line.consumer.topics.meta)
    validators["meta"].validate(meta)
    assert meta["camera"]["serial"] == "R1"
    assert [status["status"] for status in line.consumer.of(line.consumer.topics.status)] == ["online", "stopped"]


def test_a_killed_grabber_is_replaced_and_no_trigger_goes_without_verdict(make_line, validators):
    line = make_line().start()
    until(lambda: len(line.consumer.verdicts) >= 10, "10 verdicts")
    (grabber,) = multiprocessing.active_children()
    os.kill(grabber.pid, signal.SIGKILL)
    until(lambda: "Error" in line.consumer.states, "state Error")
    until(lambda: line.consumer.states[-1] == "ContinuousExecution", "recovery")
    after = len(line.consumer.verdicts)
    until(lambda: len(line.consumer.verdicts) >= after + 10, "verdicts after the recovery")
    line.end()
    check_complete(line, validators)
    assert {verdict["verdict"] for verdict in line.consumer.verdicts[-8:]} == {"OK", "NG"}
    assert "INVALID" in {verdict["verdict"] for verdict in line.consumer.verdicts}


def test_a_camera_that_goes_away_and_comes_back(make_line, validators, replay):
    line = make_line().start()
    until(lambda: len(line.consumer.verdicts) >= 10, "10 verdicts")
    replay.online = False
    until(lambda: "Error" in line.consumer.states, "state Error")
    until(lambda: line.consumer.verdicts[-1]["verdict"] == "INVALID", "verdicts while the camera is away")
    replay.online = True
    until(lambda: line.consumer.states[-1] == "ContinuousExecution", "recovery")
    until(lambda: line.consumer.verdicts[-1]["verdict"] in ("OK", "NG"), "a judged part")
    line.end()
    check_complete(line, validators)
    reasons = {verdict["reason"] for verdict in line.consumer.verdicts if verdict["verdict"] == "INVALID"}
    assert any("camera" in reason for reason in reasons)


def test_a_camera_absent_at_start_is_waited_for(make_line, validators, replay, monkeypatch):
    monkeypatch.setattr("edge.station._CAMERA_START_S", 1.0)
    replay.online = False
    line = make_line().start()
    until(lambda: "Error" in line.consumer.states, "state Error")
    replay.online = True
    until(lambda: any(verdict["verdict"] == "NG" for verdict in line.consumer.verdicts), "a judged part")
    line.end()
    check_complete(line, validators)


@pytest.fixture
def lasting_broker(mosquitto, tmp_path):
    """A broker that keeps sessions and their queues over a restart."""
    return mosquitto("persistence true", f"persistence_location {tmp_path}/", "max_queued_messages 0")


def test_a_broker_absent_at_start_gets_everything_later(make_line, validators, lasting_broker):
    lasting_broker.start()
    line = make_line(lasting_broker)
    line.consumer = Consumer(lasting_broker.port)
    lasting_broker.terminate()
    line.start(consume=False)
    until(lambda: line.station.verdicts.total() >= 20, "20 verdicts without a broker")
    assert line.station.publisher.stats().pending >= 20
    assert not line.station.status().broker_connected
    lasting_broker.start()
    until(lambda: len(line.consumer.verdicts) >= 30, "the backlog")
    line.end()
    check_complete(line, validators, in_order=False)


def test_a_broker_that_restarts_misses_nothing(make_line, validators, lasting_broker):
    line = make_line(lasting_broker.start()).start()
    until(lambda: line.station.publisher.stats().acknowledged >= 5, "acknowledgements")
    line.broker.terminate()
    until(lambda: line.station.publisher.stats().pending >= 10, "a backlog")
    line.broker.start()
    until(lambda: line.station.publisher.stats().pending < 3, "the backlog's delivery")
    line.stop.set()
    line._thread.join(30)
    until(lambda: len(line.consumer.by_result_id) == line.station.verdicts.total(), "every verdict")
    assert sorted(verdict["seq"] for verdict in line.consumer.by_result_id.values()) == list(
        range(line.station.verdicts.total())
    )
    line.consumer.close()


def test_a_stalled_camera_is_invalid_or_late_but_never_ok(make_line, validators, replay):
    line = make_line(
        camera=GenicamConfig(producer=build(), serial="R1", features={"PixelFormat": "RGB8"}, frame_timeout_ms=150),
        trigger=TriggerConfig(interval_ms=50, deadline_ms=400),
    ).start()
    until(lambda: len(line.consumer.verdicts) >= 4, "verdicts")
    replay.stall = True
    until(lambda: line.consumer.verdicts[-1]["verdict"] in ("INVALID", "TIMEOUT"), "a verdict without a frame")
    replay.stall = False
    until(lambda: line.consumer.verdicts[-1]["verdict"] in ("OK", "NG"), "recovery")
    line.end()
    check_complete(line, validators)


def test_every_pulse_on_the_line_input_is_a_trigger(make_line, validators, replay):
    line = make_line(trigger=TriggerConfig(mode="line")).start()
    until(lambda: line.consumer.states[-1:] == ["ContinuousExecution"], "a streaming camera")
    for pulses in range(1, 7):
        replay.pulse_line()
        until(lambda pulses=pulses: len(line.consumer.verdicts) == pulses, f"{pulses} verdicts")
    line.end()
    check_complete(line, validators)


def test_a_page_and_a_folder_of_images(make_line, validators, tmp_path):
    (tmp_path / "parts").mkdir()
    for name, grey in (("a.png", GOOD), ("b.png", BAD)):
        cv2.imwrite(str(tmp_path / "parts" / name), np.full((64, 64), grey, np.uint8))
    line = make_line(camera=FolderConfig(kind="folder", directory=tmp_path / "parts"))
    with open_station(line.config, is_simulated=False) as station, open_dashboard(station, line.config) as address:
        with urlopen(f"{address}events") as events:
            first = next(line for line in events if line.startswith(b"data:"))
            assert json.loads(first[5:])["station"]["camera_state"] == "Discover"
        station.run(threading.Event(), trigger_limit=6)
        assert station.verdicts == {"OK": 3, "NG": 3}
        assert station.status().throughput_per_s > 0


def test_the_plc_gets_its_flat_record(make_line, validators):
    line = make_line()
    line.config = line.config.model_copy(
        update={"mqtt": line.config.mqtt.model_copy(update={"publish_plc": True, "publish_last": False})}
    )
    line.start()
    until(lambda: len(line.consumer.of(line.consumer.topics.plc)) >= 4, "PLC records")
    line.end()
    check_complete(line, validators)
    for record, verdict in zip(line.consumer.of(line.consumer.topics.plc), line.consumer.verdicts, strict=False):
        validators["plc"].validate(record)
        assert (record["id"], record["v"]) == (verdict["result_id"], verdict["verdict"])


def test_the_command_runs_until_sigterm(make_line, tmp_path):
    line = make_line()
    file = tmp_path / "station.toml"
    file.write_text(
        f"""
bundle = "bundle"
[identity]
site = "plant"
area = "paint"
line = "l1"
station = "s1"
[camera]
kind = "genicam"
producer = "{build()}"
serial = "R1"
[trigger]
interval_ms = 20
[mqtt]
port = {line.broker.port}
[dashboard]
port = 0
"""
    )
    consumer = Consumer(line.broker.port)
    process = subprocess.Popen(
        [sys.executable, "-m", "edge.cli", "run", "--config", str(file)], stderr=subprocess.PIPE, text=True
    )
    try:
        until(lambda: len(consumer.verdicts) >= 5, "verdicts")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "golden vectors reproduced" in said
    assert "page at http://127.0.0.1:" in said
    until(lambda: consumer.states[-1] == "Halted", "state Halted")
    until(lambda: consumer.of(consumer.topics.status)[-1]["status"] == "stopped", "status stopped")
    consumer.close()
