"""What tests of messages and delivery share: a complete verdict, the committed schemas, a real broker."""

from __future__ import annotations

import getpass
import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from ports import free_port

from edge.config import Identity
from edge.messages import (
    RESULT_STATES,
    CameraShot,
    Defect,
    Mask,
    Model,
    Outcome,
    Part,
    Quality,
    Recipe,
    Score,
    Station,
    Timing,
    Verdict,
)
from edge.wire import Topics

BOOT_ID = "01JD9V3N0000000000000000B0"
SCHEMAS = Path(__file__).parents[2] / "edge" / "schemas"

MakeVerdict = Callable[..., Verdict]


@pytest.fixture(scope="session")
def boot_id() -> str:
    return BOOT_ID


@pytest.fixture(scope="session")
def topics() -> Topics:
    return Topics(Identity(site="plant", area="paint", line="l1", station="s1"))


@pytest.fixture(scope="session")
def make_verdict() -> MakeVerdict:
    def make(seq: int = 0, verdict: Outcome = "NG", **changes: Any) -> Verdict:
        fields: dict[str, Any] = {
            "result_id": f"01JD9V3N{seq:018d}",
            "boot_id": BOOT_ID,
            "seq": seq,
            "ts": "2025-11-22T05:01:35.000123Z",
            "station": Station(site="plant", area="paint", line="l1", station="s1"),
            "camera": CameraShot(serial="SIM-1", frame_id=17, exposure_us=800.0),
            "part": Part(part_id="A-17", lot="L4", trigger_id=seq),
            "recipe": Recipe(id="flange", version="3"),
            "model": Model(name="flange", version="3", precision="fp32", engine_sha256="0" * 64),
            "result_state": RESULT_STATES[verdict],
            "is_simulated": True,
            "verdict": verdict,
            "reason": None if verdict in ("OK", "NG") else "frame incomplete",
            "score": Score(image=0.71, threshold=0.5, calibrated_fpr=0.01),
            "defects": (
                Defect(id=0, bbox=(3, 4, 2, 2), area_px=4, area_frac=4 / 65536, score_max=0.9, centroid=(3.5, 4.5)),
            ),
            "defects_total": 1,
            "mask": Mask(encoding="coco_rle", size=(256, 256), to_image=(5, 0, 2, 0, 5, 2), counts="Te02Pn1"),
            "timing_ms": Timing(infer=41.2, total=60.25),
            "quality": Quality(incomplete=False, brightness=99.5),
        }
        return Verdict(**{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def validators() -> dict[str, Draft202012Validator]:
    """By the last part of the schema's name: `verdict`, `status`, …"""
    return {
        path.stem: Draft202012Validator(json.loads(path.read_text(encoding="utf-8")), format_checker=FormatChecker())
        for path in SCHEMAS.glob("*.json")
    }


class Mosquitto:
    """A broker on a port of its own that can be started, stopped and killed."""

    def __init__(self, binary: str, directory: Path, options: tuple[str, ...]) -> None:
        self.port = free_port()
        self._config = directory / f"mosquitto-{self.port}.conf"
        # As root it would become another user, who may not read the test's directory.
        lines = (f"listener {self.port} 127.0.0.1", f"user {getpass.getuser()}", *options)
        if not any(option.startswith("allow_anonymous") for option in options):
            lines = (*lines, "allow_anonymous true")
        self._config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Mosquitto:
        self._process = subprocess.Popen(
            [self._binary, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline_s = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                assert self._process.poll() is None, f"mosquitto ended: {self._config.read_text()}"
                assert time.monotonic() < deadline_s
                time.sleep(0.01)

    def terminate(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def reload(self) -> None:
        """Read the configuration again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
        self._process = None


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Makes brokers with the given configuration lines; not started yet."""
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        pytest.skip("needs the program mosquitto")
    made: list[Mosquitto] = []

    def make(*options: str) -> Mosquitto:
        made.append(Mosquitto(binary, tmp_path, options))
        return made[-1]

    yield make
    for broker in made:
        broker.terminate()
