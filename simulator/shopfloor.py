"""The other end of the demo's broker: a consumer in a process of its own that takes in what the station says.

It knows the simulated camera's diary, so it can set beside each verdict what was really wrong with the part.
"""

from __future__ import annotations

import multiprocessing
import queue
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge.errors import DeliveryError
from edge.messages import Verdict
from edge.wire import Topics
from simulator.defects import DefectKind
from simulator.replay import ReplayCamera

_CONNECT_S = 10.0
_COLOURS = {"OK": "\033[32m", "NG": "\033[1;31m", "INVALID": "\033[33m", "TIMEOUT": "\033[35m"}


@dataclass(frozen=True, slots=True)
class Received:
    """One verdict as it came from the broker.

    Attributes:
        payload: its bytes.
        received_monotonic_ns: when.
        image_index: which part was under the camera; None when no frame belongs to it.
    """

    payload: bytes
    received_monotonic_ns: int
    image_index: int | None


@dataclass(frozen=True, slots=True)
class Scene:
    """What passes in front of the camera: its file, and what is wrong with each of its images (None: nothing)."""

    camera_path: Path
    defects: tuple[DefectKind | None, ...]


class ShopFloor:
    """The consumer, seen from the demo."""

    def __init__(self, connection: Connection, process: multiprocessing.process.BaseProcess) -> None:
        self._connection = connection
        self._process = process

    def collect(self, expected: int, timeout_s: float) -> list[Received]:
        """Everything received once `expected` verdicts are there, or after `timeout_s`; ends the consumer."""
        self._connection.send((expected, timeout_s))
        received: list[Received] = self._connection.recv()
        self._process.join()
        return received


@contextmanager
def shop_floor(host: str, port: int, topics: Topics, scene: Scene, *, say: bool) -> Iterator[ShopFloor]:
    """A consumer that is subscribed when this returns.

    Args:
        say: print one line per verdict to standard error.

    Raises:
        DeliveryError: the broker cannot be reached.
    """
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=_consume, args=(far, host, port, topics, scene, say), daemon=True)
    process.start()
    far.close()
    try:
        problem = near.recv()
        if problem is not None:
            raise DeliveryError(
                f"broker {host}:{port} cannot be used ({problem})", "check its address and that it runs"
            )
        yield ShopFloor(near, process)
    finally:
        near.close()
        process.join(1.0)
        if process.is_alive():
            process.terminate()
            process.join()


def _consume(link: Connection, host: str, port: int, topics: Topics, scene: Scene, say: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    arrived: queue.SimpleQueue[tuple[bytes, int]] = queue.SimpleQueue()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda client, *_: client.subscribe(topics.verdict, qos=1)
    client.on_subscribe = lambda *_: link.send(None)
    client.on_message = lambda _client, _data, message: arrived.put((bytes(message.payload), time.monotonic_ns()))
    try:
        client.connect(host, port)
    except OSError as error:
        link.send(str(error))
        return
    client.loop_start()
    diary = _Diary(scene)
    received: list[Received] = []
    expected, give_up_s = sys.maxsize, float("inf")
    while len(received) < expected and time.monotonic() < give_up_s:
        if expected == sys.maxsize and link.poll():
            try:
                expected, timeout_s = link.recv()
            except EOFError:
                break
            give_up_s = time.monotonic() + timeout_s
            continue
        try:
            payload, moment_ns = arrived.get(timeout=0.1)
        except queue.Empty:
            continue
        verdict = Verdict.model_validate_json(payload)
        index = diary.image_of(verdict)
        received.append(Received(payload, moment_ns, index))
        if say:
            print(_line(verdict, None if index is None else scene.defects[index]), file=sys.stderr, flush=True)
    client.loop_stop()
    client.disconnect()
    if expected != sys.maxsize:
        link.send(received)


class _Diary:
    """Which image each camera timestamp belongs to."""

    def __init__(self, scene: Scene) -> None:
        self._camera = ReplayCamera.open(scene.camera_path)
        self._images: dict[int, int] = {}

    def image_of(self, verdict: Verdict) -> int | None:
        if verdict.ts_camera is None:
            return None
        if verdict.ts_camera not in self._images:
            self._images |= {shot.timestamp_ns: shot.image_index for shot in self._camera.exposures()}
        return self._images.get(verdict.ts_camera)


def _line(verdict: Verdict, truth: DefectKind | None) -> str:
    colour, plain = (_COLOURS[verdict.verdict], "\033[0m") if sys.stderr.isatty() else ("", "")
    score = (
        f"score {verdict.score.image:.3g} (limit {verdict.score.threshold:.3g})" if verdict.score else verdict.reason
    )
    where = ""
    if verdict.defects:
        worst, mask = verdict.defects[0], verdict.mask
        size = "" if mask is None else f", mask {len(mask.counts)} B" if mask.counts else f", mask on {mask.uri}"
        where = f", {verdict.defects_total} defect(s), worst {worst.area_px} px at {worst.bbox[:2]}{size}"
    part = "good part" if truth is None else f"rendered with {truth.value.replace('_', ' ')}"
    return f"{verdict.ts[11:23]}  {colour}{verdict.verdict:7}{plain} {score}{where}  [{part}]"
