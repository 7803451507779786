"""What is fuzzed: everything that reads bytes from outside, each with cases near what it accepts.

A case is accepted, or refused with an error of ours; anything else is a failure.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from genicam import genapi
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edge.bundle import Bundle, load_bundle
from edge.cameras.features import write_features
from edge.commands import CommandDesk
from edge.config import MqttConfig
from edge.config_file import load_config
from edge.dashboard.passwords import hash_password, load_passwords
from edge.engines.ort import open_session
from edge.errors import TfanetEdgeError
from edge.manifest import Manifest
from edge.masks import decode_png, decode_rle, encode_png, encode_rle
from edge.mqtt.link import Link
from edge.mqtt.packets import Incoming, Will
from edge.notices import CommandResult
from edge.outbox import Message, Outbox
from edge.replay import ReplayDesk
from edge.wire import utc_text
from simulator.build import NATIVE, SANITIZERS, compiler
from simulator.replay import ReplayCamera

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
BOOT_ID = "01JD9V3N0000000000000000B0"
_LARGEST = 2**64

Run = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """Something that reads bytes.

    Attributes:
        name: also of its directory in the corpus.
        cases: what it is given.
        opened: within it, what takes one case; made in an empty directory.
        share: of the cases that are asked for; slow ones get fewer.
    """

    name: str
    cases: st.SearchStrategy[bytes]
    opened: Callable[[Path], Any]
    share: float = 1.0


def outcome(run: Run, case: bytes) -> Literal["accepted", "refused"]:
    """What becomes of one case; whatever is not an error of ours is raised."""
    try:
        run(case)
    except TfanetEdgeError:
        return "refused"
    return "accepted"


def near(*seeds: bytes) -> st.SearchStrategy[bytes]:
    """The seeds with up to four pieces replaced, removed or added; at times something else altogether."""
    piece = st.tuples(st.integers(0, 10**6), st.integers(0, 16), st.binary(max_size=16))

    def changed(seed: bytes, pieces: list[tuple[int, int, bytes]]) -> bytes:
        for place, removed, added in pieces:
            at = place % (len(seed) + 1)
            seed = seed[:at] + added + seed[at + removed :]
        return seed

    cut = st.builds(lambda seed, end: seed[: end % (len(seed) + 1)], st.sampled_from(seeds), st.integers(0, 10**6))
    mutated = st.builds(changed, st.sampled_from(seeds), st.lists(piece, max_size=4))
    deep = st.sampled_from([b"[" * 3000, b'{"a":' * 3000, b"a = " + b"[" * 3000])
    return st.one_of(mutated, mutated, mutated, cut, st.binary(max_size=200), deep)


def near_json(document: Any) -> st.SearchStrategy[bytes]:
    """The document with values exchanged anywhere in it."""
    leaf = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-_LARGEST, _LARGEST),
        st.floats(),
        st.text(max_size=20),
        st.builds(list),
        st.builds(dict),
        st.sampled_from(["../../etc/passwd", "/dev/zero", "a\0b", "x" * 5000, 10**400]),
    )

    def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        yield path
        if isinstance(node, dict | list):
            for key, value in node.items() if isinstance(node, dict) else enumerate(node):
                yield from places(value, (*path, key))

    def exchanged(changes: list[tuple[tuple[Any, ...], Any]]) -> bytes:
        copy = json.loads(json.dumps({"": document}))
        for path, value in changes:
            node: Any = copy
            try:
                for key in ("", *path)[:-1]:
                    node = node[key]
                node[("", *path)[-1]] = value
            except (LookupError, TypeError):
                continue
        return json.dumps(copy[""]).encode()

    change = st.tuples(st.sampled_from([*places(document)]), leaf)
    return st.one_of(st.builds(exchanged, st.lists(change, max_size=3)), near(json.dumps(document).encode()))


def _small_network() -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Div", ["image", "white"], ["anomaly_map"])],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor("white", TensorProto.FLOAT, [], [255.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def _manifest() -> dict[str, Any]:
    """The demo bundle's, over files of one byte."""
    document: dict[str, Any] = json.loads((ROOT / "simulator" / "demo_bundle" / "manifest.json").read_text())
    document["files"] = dict.fromkeys(document["files"], hashlib.sha256(b"x").hexdigest())
    return document


def _golden() -> bytes:
    arrays = {
        "image": np.zeros((1, 256, 256, 3), np.uint8),
        "anomaly_map": np.zeros((1, 256, 256), np.float32),
        "score": np.zeros(1, np.float32),
    }
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _golden_with_header(header: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        text = header.encode("latin-1", "replace")
        archive.writestr("image.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
    return file.getvalue()


def _outbox_file() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "outbox.sqlite"
        outbox = Outbox(path, 100)
        for seq in range(6):
            outbox.append_many([Message("t/verdict", b'{"historical":false}', 1, False, "verdict", BOOT_ID, seq)])
        outbox.remove([row.id for row in outbox.pending(2)])
        outbox.close()
        return path.read_bytes()


@contextmanager
def _open_outbox(directory: Path) -> Iterator[Run]:
    def run(case: bytes) -> None:
        room = Path(tempfile.mkdtemp(dir=directory))
        path = room / "outbox.sqlite"
        path.write_bytes(case)
        try:
            outbox = Outbox(path, 100)
            try:
                for row in outbox.pending(100):
                    assert isinstance(row.message.payload, bytes)
                outbox.gaps()
                outbox.append_many([Message("t", b"{}", 1, False, "verdict", BOOT_ID, 99)])
                assert outbox.pending(1000)[-1].message.seq == 99
            finally:
                outbox.close()
        finally:
            shutil.rmtree(room)

    yield run


@contextmanager
def _open_manifest(directory: Path) -> Iterator[Run]:
    for name in _manifest()["files"]:
        (directory / name).write_bytes(b"x")

    def run(case: bytes) -> None:
        (directory / "manifest.json").write_bytes(case)
        load_bundle(directory)

    yield run


@contextmanager
def _open_golden(directory: Path) -> Iterator[Run]:
    manifest = Manifest.model_validate(_manifest())

    def run(case: bytes) -> None:
        (directory / manifest.golden.file).write_bytes(case)
        Bundle(directory, manifest, "").golden()

    yield run


@contextmanager
def _open_network(_: Path) -> Iterator[Run]:
    def run(case: bytes) -> None:
        open_session(case, 1)

    yield run


@contextmanager
def _open_config(directory: Path) -> Iterator[Run]:
    def run(case: bytes) -> None:
        (directory / "station.toml").write_bytes(case)
        load_config(directory / "station.toml")

    yield run


@contextmanager
def _open_commands(_: Path) -> Iterator[Run]:
    desk = CommandDesk(BOOT_ID, lambda _: None, lambda: 1_763_787_695_000_000_000)
    desk.offer("state", lambda: {"answer": 42.0})

    def run(case: bytes) -> None:
        result = desk.answer("state", case)
        CommandResult.model_validate_json(result.encode())
        if result.result == "refused":
            raise TfanetEdgeError(str(result.reason))

    yield run


@contextmanager
def _open_replay(directory: Path) -> Iterator[Run]:
    with ExitStack() as stack:
        outbox = Outbox(directory / "outbox.sqlite", 100)
        stack.callback(outbox.close)

        def run(case: bytes) -> None:
            desk = ReplayDesk(outbox)
            desk.receive(Incoming("replay/request", case, False))
            desk.take(100)
            if desk.refused:
                raise TfanetEdgeError("refused")

        yield run


@contextmanager
def _open_rle(_: Path) -> Iterator[Run]:
    def run(case: bytes) -> None:
        height, width = struct.unpack("<hh", case[:4].ljust(4, b"\0"))
        mask = decode_rle(case[4:].decode("latin-1"), (height, width))
        assert mask.shape == (height, width)

    yield run


@contextmanager
def _open_png(_: Path) -> Iterator[Run]:
    def run(case: bytes) -> None:
        assert decode_png(case).ndim == 2

    yield run


@contextmanager
def _open_passwords(directory: Path) -> Iterator[Run]:
    def run(case: bytes) -> None:
        (directory / "passwords").write_bytes(case)
        load_passwords(directory / "passwords")

    yield run


class _Registers(genapi.AbstractPort):  # type: ignore[misc]
    """A camera that is nothing but memory."""

    def __init__(self) -> None:
        super().__init__()
        self.content: dict[int, bytes] = {}

    def get_access_mode(self) -> int:
        return int(genapi.EAccessMode.RW)

    def write(self, address: int, value: bytes) -> None:
        self.content[address] = value

    def read(self, address: int, length: int) -> bytes:
        return self.content.get(address, b"").ljust(length, b"\0")[:length]


@contextmanager
def _open_features(_: Path) -> Iterator[Run]:
    registers, nodes = _Registers(), genapi.NodeMap()
    nodes.load_xml_from_file(str(NATIVE / "device.xml"))
    nodes.connect(registers, "Device")

    def run(case: bytes) -> None:
        registers.content.clear()
        # What is no configuration never gets as far as a camera.
        try:
            features = tomllib.loads(case.decode())
        except (ValueError, RecursionError) as error:
            raise TfanetEdgeError("no TOML") from error
        values = {name: value for name, value in features.items() if isinstance(value, bool | int | float | str)}
        write_features(nodes, values)

    yield run


_CAMERA_CHECK = """
#include "camera_file.h"
int main(int count, char **names) {
    struct camera_file file;
    if (count != 2 || !camera_file_open(&file, names[1])) return 3;
    volatile uint32_t sum = 0;
    for (uint32_t turn = 0; turn < 4; ++turn) {
        const uint8_t *image = file.images + camera_file_next_image(file.header) * file.header->image_bytes;
        sum += image[0] + image[file.header->image_bytes - 1];
        camera_file_log(file.header, (struct camera_log_entry){.image_index = turn});
    }
    camera_file_close(&file);
    return 0;
}
"""


def _camera_file() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        camera = ReplayCamera.create(Path(directory), "SIM-1", np.zeros((2, 8, 8), np.uint8))
        path = camera.path
        camera.close()
        return path.read_bytes()


@contextmanager
def _open_camera_file(directory: Path) -> Iterator[Run]:
    """The part of the producer that trusts the file, built with sanitizers."""
    source, program, path = directory / "check.c", directory / "check", directory / "SIM-1.cam"
    source.write_text(_CAMERA_CHECK)
    options = ("-std=c11", "-D_GNU_SOURCE", "-O1", *SANITIZERS, f"-I{NATIVE}", "-o", str(program))
    command = [compiler(), *options, str(source), str(NATIVE / "camera_file.c")]
    subprocess.run(command, check=True, capture_output=True)

    def run(case: bytes) -> None:
        path.write_bytes(case)
        done = subprocess.run([program, path], capture_output=True, check=False, timeout=20)
        assert done.returncode in (0, 3), done.stderr.decode()
        ReplayCamera.open(path).close()
        if done.returncode:
            raise TfanetEdgeError("no camera")

    yield run


_CONNACK = b"\x20\x02\x00\x00"
_SUBACK = b"\x90\x03\x00\x01\x01"
_PUBLISH = b"\x32\x09\x00\x03cmd\x00\x07{}"
_PUBACK = b"\x40\x02\x00\x02"


@contextmanager
def _open_broker(_: Path) -> Iterator[Run]:
    """A broker that says what the case is, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        bell, rope = socket.socketpair()
        cases: list[bytes] = []

        def speak() -> None:
            while True:
                connection, _ = server.accept()
                # The station hangs up on what it does not understand.
                with connection, suppress(OSError):
                    connection.recv(4096)
                    if not cases:
                        return
                    connection.sendall(cases.pop())
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(4096):
                        pass

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        config = MqttConfig(port=server.getsockname()[1])

        def run(case: bytes) -> None:
            cases.append(case)
            link = Link(config, None, "station", Will("gone", b""), bell)
            try:
                link.subscribe("cmd", lambda _: None, 100)
                for _ in range(20):
                    link.wait(1.0)
            finally:
                link.close()

        try:
            yield run
        finally:
            with socket.create_connection(server.getsockname()) as last:
                cases.clear()
                last.sendall(b"end")
                thread.join(5)
            bell.close()
            rope.close()


def _feature_cases() -> st.SearchStrategy[bytes]:
    names = ("ExposureTime", "Width", "OffsetX", "PixelFormat", "DeviceUserID", "TriggerMode", "TriggerSoftware")
    values = st.one_of(
        st.integers(-(2**70), 2**70).map(str),
        st.sampled_from(["inf", "-inf", "nan", "1e308", "0.1", "true", "false", '""', '"Mono8"', '"On"']),
        st.text(max_size=80).map(json.dumps),
    )
    line = st.builds(lambda name, value: f"{name} = {value}", st.sampled_from((*names, "Gain", "Root")), values)
    return st.lists(line, max_size=4).map(lambda lines: "\n".join(lines).encode("utf-8", "replace"))


def targets() -> list[Target]:
    """All of them."""
    mask = np.zeros((16, 20), np.uint8)
    mask[3:9, 4:11] = 1
    _, colour = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))
    rle = struct.pack("<hh", 16, 20) + encode_rle(mask).encode()
    sample = (ROOT / "systemd" / "station.toml").read_bytes()
    command = {"command_id": "a-1", "ts": utc_text(1_763_787_695_000_000_000)}
    request = {"boot_id": BOOT_ID, "from_seq": 0, "to_seq": 5}
    passwords = f"olga:operator:{hash_password('x')}\n".encode()
    headers = st.text(max_size=60) | st.sampled_from(
        [
            "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999,), }\n",
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
            "(" * 300,
        ]
    )
    return [
        Target("outbox", near(_outbox_file()), _open_outbox, 0.4),
        Target("manifest", near_json(_manifest()), _open_manifest),
        Target("golden", near(_golden()) | headers.map(_golden_with_header), _open_golden),
        Target("network", near(_small_network()), _open_network),
        Target("config", near(sample) | near_json_as_toml(), _open_config),
        Target("commands", near_json(command), _open_commands),
        Target("replay", near_json(request), _open_replay),
        Target("rle", near(rle, struct.pack("<hh", 32767, 32767) + b"0"), _open_rle),
        Target("png", near(encode_png(mask), colour.tobytes()), _open_png),
        Target("passwords", near(passwords), _open_passwords),
        Target("features", _feature_cases(), _open_features),
        Target("camera_file", near(_camera_file()), _open_camera_file, 0.4),
        Target("broker", near(_CONNACK + _SUBACK + _PUBLISH + _PUBACK, _CONNACK, _PUBLISH), _open_broker, 0.4),
    ]


def near_json_as_toml() -> st.SearchStrategy[bytes]:
    """Keys of the configuration with values of every type."""
    keys = st.sampled_from(["mqtt.port", "mqtt.tls", "camera.kind", "dashboard.host", "identity.site", "outbox.path"])
    values = st.sampled_from(['"x"', "1", "-1", "nan", "true", "[]", "{}", '"0.0.0.0"', '"\\u0000"', "1979-05-27"])
    head = 'bundle = "b"\n'
    return st.lists(st.tuples(keys, values), max_size=4).map(
        lambda pairs: (head + "".join(f"{key} = {value}\n" for key, value in pairs)).encode()
    )
