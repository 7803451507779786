"""What the camera tests share: real producers, and a camera with a memory for its events."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import genicam
import numpy as np
import pytest

from edge.cameras.camera import Camera, CameraEvent, CameraState, FrameArrived, StateChanged
from edge.config import GenicamConfig
from edge.frame import Frame, Image
from simulator.build import build
from simulator.replay import ReplayCamera

Event = TypeVar("Event")


class Bench:
    """Starts a camera, keeps every event it told, and stops it in the end."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.events: list[CameraEvent] = []

    def start(self, timeout_s: float = 20.0) -> Bench:
        self.camera.start(timeout_s)
        return self

    def wait_for(self, kind: type[Event], timeout_s: float = 10.0) -> Event:
        """The next event of a kind; what comes before it is kept in `events`."""
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            event = self.camera.poll(left_s)
            if event is not None:
                self.events.append(event)
            if isinstance(event, kind):
                return event
        raise AssertionError(f"no {kind.__name__} within {timeout_s} s, but {self.events}")

    def wait_for_state(self, state: CameraState, timeout_s: float = 10.0) -> StateChanged:
        while (change := self.wait_for(StateChanged, timeout_s)).state is not state:
            pass
        return change

    def frame(self, timeout_s: float = 10.0) -> Frame:
        return self.wait_for(FrameArrived, timeout_s).frame

    def drain(self) -> list[CameraEvent]:
        while (event := self.camera.poll(0.0)) is not None:
            self.events.append(event)
        return self.events

    @property
    def states(self) -> list[CameraState]:
        return [event.state for event in self.events if isinstance(event, StateChanged)]


@pytest.fixture
def bench() -> Iterator[Callable[[Camera], Bench]]:
    benches: list[Bench] = []

    def make(camera: Camera) -> Bench:
        benches.append(Bench(camera))
        return benches[-1]

    yield make
    for made in benches:
        made.camera.stop()
    assert not multiprocessing.active_children()


@pytest.fixture
def new_shared_memory() -> Callable[[], set[str]]:
    """Names in /dev/shm since the test began that stay there: those of semaphores, of any process, last a moment."""
    before = set(os.listdir("/dev/shm"))

    def names() -> set[str]:
        left = set(os.listdir("/dev/shm")) - before
        deadline_s = time.monotonic() + 2
        while left and time.monotonic() < deadline_s:
            time.sleep(0.01)
            left &= set(os.listdir("/dev/shm"))
        return left

    return names


@pytest.fixture(scope="session")
def viky() -> Path:
    """The producer that comes with the genicam package: cameras '0', '1' and '2', free-running only."""
    return Path(genicam.__path__[0]) / "viky.cti"


@pytest.fixture
def build_library(tmp_path: Path) -> Callable[[str], Path]:
    """Compiles C source into a shared library."""

    def build(source: str) -> Path:
        path = tmp_path / "library.cti"
        (tmp_path / "library.c").write_text(source)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", path, tmp_path / "library.c"], check=True)
        return path

    return build


@pytest.fixture(scope="session")
def replay_images() -> Image:
    """Four colour images, (4, 48, 64, 3)."""
    return np.random.default_rng(3).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)


@pytest.fixture
def replay(tmp_path: Path, replay_images: Image, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReplayCamera]:
    """The bench of a simulated colour camera, serial R1, which processes started from here see."""
    monkeypatch.setenv("REPLAY_CAMERAS", str(tmp_path))
    with ReplayCamera.create(tmp_path, "R1", replay_images, user_id="above the belt") as camera:
        yield camera


@pytest.fixture
def replay_config(replay: ReplayCamera) -> GenicamConfig:
    """A configuration that selects the simulated camera."""
    return GenicamConfig(producer=build(), serial=replay.serial, backoff_s=0.1)
