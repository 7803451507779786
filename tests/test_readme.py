"""Every code block of the README, run. Addresses of a real camera and a real broker are replaced by simulated ones."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from simulator.broker import embedded_broker
from simulator.build import build
from simulator.demo import BUNDLE
from simulator.replay import ReplayCamera

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SERIAL = "12345678"


def block(beginning: str) -> str:
    (found,) = [text for _, text in BLOCKS if beginning in text]
    return str(found)


def shell(command: str, directory: Path = ROOT, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", "-ec", command.replace(".venv/bin/tfanet-edge", f"{sys.executable} -m edge.cli")],
        cwd=directory,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Ctrl-C for the whole group, as a terminal does it."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        return process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_every_block_is_run_here():
    languages = [language for language, _ in BLOCKS]
    assert languages == ["text", "sh", "sh", "sh", "sh", "toml", "sh", "python", *["sh"] * 7]


@pytest.mark.slow
def test_make_demo_shows_verdicts_within_seconds():
    assert block("make demo") == "make demo\n"
    process = shell("make demo", ARGS="--port 0 --interval-ms 100")
    assert process.stderr is not None
    lines = []
    try:
        while sum(" score " in line for line in lines) < 8:
            line = process.stderr.readline()
            assert line, f"it ended: {lines}"
            lines.append(line)
    finally:
        rest = end(process)
    said = "".join(lines)
    assert re.search(r"page +http://127\.0\.0\.1:\d+/", said), (said, rest)
    assert re.search(r"verdicts +tfanet/v1/demo/\S+/verdict", said)


def test_make_test_is_what_ci_runs():
    assert block("make test") == "make test\n"
    assert re.search(r"^make test$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


@pytest.mark.slow
def test_the_demo_keeps_its_claims():
    """The figures of docs/demo.md: 300 unseen parts, every verdict delivered and valid."""
    process = shell(block("--triggers 300"))
    output, said = process.communicate(timeout=280)
    assert process.returncode == 0, said
    summary = json.loads(output)
    assert summary["triggers"] == summary["received"] == summary["schema_valid"] == 300
    # The audit trail tells of the bundle, the golden test and the camera.
    assert summary["acknowledged"] == summary["published"] == 300 + 3
    assert summary["pending"] == 0
    assert summary["seq_gap_free"]
    assert summary["verdicts"]["OK"] + summary["verdicts"]["NG"] == 300
    assert summary["defects"]["injected"] == 75
    assert summary["image_auroc"] >= 0.99
    assert summary["detection_rate"] >= 0.95
    assert summary["false_reject_rate"] <= 0.02


@pytest.fixture
def camera(tmp_path):
    images = np.random.default_rng(0).integers(40, 200, (4, 96, 96, 3), dtype=np.uint8)
    with ReplayCamera.create(tmp_path / "cameras", SERIAL, images) as camera:
        yield camera


def test_the_cameras_are_listed(camera):
    command = block("cameras --producer").replace("/opt/vendor/lib/camera.cti", str(build()))
    process = shell(command, REPLAY_CAMERAS=str(camera.path.parent))
    output, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert SERIAL in output


def test_a_station_with_camera_and_broker_and_somebody_who_listens(camera, tmp_path):
    with embedded_broker() as (host, port):
        config = (
            block("[camera.features]")
            .replace("/opt/vendor/lib/camera.cti", str(build()))
            .replace("192.168.1.10", host)
            .replace("1883", str(port))
            .replace('"bundle"', f'"{BUNDLE}"')
        )
        (tmp_path / "station.toml").write_text(f"{config}\n[dashboard]\nport = 0\n")
        listener = block("on_message").replace("192.168.1.10", host).replace("1883", str(port))
        listening = subprocess.Popen([sys.executable, "-c", listener], stdout=subprocess.PIPE, text=True)
        command = block("run --config").replace("station.toml", str(tmp_path / "station.toml"))
        station = shell(command, REPLAY_CAMERAS=str(camera.path.parent))
        try:
            assert station.stderr is not None
            while "inspecting" not in (line := station.stderr.readline()):
                assert line, "the station ended"
            time.sleep(0.5)
            camera.pulse_line()
            assert listening.stdout is not None
            assert re.match(r"0 (OK|NG) \{", listening.stdout.readline())
        finally:
            end(station)
            listening.kill()
            listening.communicate()
    assert station.returncode == 0


@pytest.fixture(scope="module")
def workplace(product, backbone_weights, tmp_path_factory):
    """The product in `parts`, ten parts more in `held-out`, a run of one epoch."""
    directory = tmp_path_factory.mktemp("workplace")
    (directory / "parts").symlink_to(product)
    (directory / "held-out").mkdir()
    for index in range(10):
        image = cv2.imread(str(product / "train" / "good" / f"{index % 8}.png"))
        cv2.imwrite(str(directory / "held-out" / f"{index}.png"), np.clip(image, 0, 250) + np.uint8(index % 5))
    command = (
        block("train --data").replace("resnet18.pth", str(backbone_weights)).replace("train ", "train --epochs 1 ")
    )
    work(command, directory)
    return directory


def work(commands: str, directory: Path) -> str:
    """Run commands there; what they print."""
    process = shell(commands, directory)
    output, said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    return output


@pytest.mark.slow
def test_a_detector_is_trained_and_judged(workplace):
    assert re.match(r"\.venv/bin/pip install -c constraints\.txt -e '\.\[training\]'$", block("[training]"))
    assert "image AUROC" in work(block("evaluate --run"), workplace)
    assert "parts" in (workplace / "runs" / "parts" / "evaluation" / "report.html").read_text()
    assert json.loads((workplace / "runs" / "parts.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_run_becomes_a_bundle_with_int8(workplace):
    # One method and any cost, to save time: neither is what this is about.
    options = "--cache cache --method mse --max-flips 1 --max-swaps 1 --max-auroc-drop 1 --max-aupro-drop 1"
    proven = work(block("--out bundle").replace("--images parts", f"--images parts {options}"), workplace)
    assert re.findall(r"^(\w+) +onnxruntime .* ok$", proven, re.MULTILINE) == ["fp32", "fp16", "int8"]
    fitted = work(block("threshold fit"), workplace)
    assert re.search(r"held-out good parts +\d+ +10\n", fitted)


def test_plans_are_built_where_there_is_a_gpu_and_elsewhere_one_line_says_what_is_missing(tmp_path):
    *installation, build_line = block("tfanet-edge build").splitlines()
    assert [line.split()[1:3] for line in installation] == [["-m", "venv"], ["install", "-c"]]
    (tmp_path / "bundle").symlink_to(BUNDLE)
    process = shell(build_line, tmp_path)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    (line,) = said.splitlines()
    assert line.startswith("tfanet-edge: ")


def test_a_bundle_is_measured(tmp_path):
    (tmp_path / "bundle").symlink_to(BUNDLE)
    process = shell(block("tfanet-edge bench").strip() + " --frames 10 --idle-s 0.1", tmp_path)
    shown, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "overlap" in shown
    result = json.loads((tmp_path / "bench.json").read_text())
    assert result["settings"]["frames"] == 10
