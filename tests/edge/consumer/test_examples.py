"""The programs in examples/, run as they stand, beside a station with a simulated camera."""

from __future__ import annotations

import csv
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from harness import until

ROOT = Path(__file__).parents[3]


@pytest.fixture
def run_example():
    """Starts one, and waits until it listens."""
    started = []

    def run(name, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-u", ROOT / "examples" / name, "127.0.0.1", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        assert select.select([process.stderr], [], [], 20)[0]
        line = process.stderr.readline()
        assert line.startswith("connected"), line + process.stderr.read()
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_the_program_on_the_page(make_line):
    page = (ROOT / "docs" / "consumer.md").read_text(encoding="utf-8")
    listening, resuming, _tls = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    line = make_line()
    program = listening.replace("192.168.1.10", "127.0.0.1").replace("1883", str(line.broker.port))
    program = resuming + program.replace("on_missing", "resume=resume, on_missing")
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            assert process.stdout.readline().startswith("connected")
            line.start(consume=False)
            assert re.fullmatch(r"plant/paint/l1/s1 0 OK 0\.\d+\n", process.stdout.readline())
            assert re.fullmatch(r"plant/paint/l1/s1 1 NG 0\.\d+\n", process.stdout.readline())
        finally:
            process.kill()
    line.stop.set()


def end(process):
    process.send_signal(signal.SIGINT)
    output, said = process.communicate(timeout=20)
    assert process.returncode == 0, said
    return output, said


def rows(path):
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["camera_y_px"] is not None]


def test_a_csv_file_has_every_verdict_once_though_its_writer_is_killed(make_line, run_example, tmp_path):
    line = make_line()
    path, masks = tmp_path / "verdicts.csv", tmp_path / "masks"
    arguments = ("verdicts_to_csv.py", path, "--masks", masks, "--port", line.broker.port)
    writer = run_example(*arguments)
    printer = run_example("print_verdicts.py", "--port", line.broker.port)
    line.start(consume=False)
    until(lambda: len(rows(path)) >= 10, "ten rows")
    writer.kill()
    writer.communicate()
    with path.open("a", encoding="utf-8") as file:
        file.write("plant/paint/l1/s1,01JD")  # as a power cut leaves it
    until(lambda: line.station.verdicts.total() >= len(rows(path)) + 10, "verdicts without a writer")
    writer = run_example(*arguments)
    line.end()
    total = line.station.verdicts.total()
    until(lambda: len(rows(path)) == total, "all rows")
    end(writer)
    lines, events = [], []
    while len(lines) < total:
        printed = printer.stdout.readline().rstrip()
        (events if " event " in printed else lines).append(printed)
    assert end(printer) == ("", "")
    assert [event.split()[3] for event in events] == ["bundle_loaded", "golden_test", "camera_connected"]

    kept = rows(path)
    assert [int(row["seq"]) for row in kept] == list(range(total))
    assert len({row["result_id"] for row in kept}) == total
    defective = [row for row in kept if row["verdict"] == "NG"]
    assert defective
    for row in defective:
        mask = cv2.imread(str(masks / f"{row['result_id']}.png"), cv2.IMREAD_GRAYSCALE)
        assert np.count_nonzero(mask) == int(row["defect_area_px"])
        # The camera's bad part is bright from x 70 to 80 and y 40 to 60.
        assert (float(row["camera_x_px"]), float(row["camera_y_px"])) == pytest.approx((74.5, 49.5), abs=1)
    assert [int(line.split()[2]) for line in lines] == list(range(total))
    assert re.fullmatch(r"\d\d:\d\d:\d\d plant/paint/l1/s1 1 NG \d\.\d{3} 1 defects", lines[1])
