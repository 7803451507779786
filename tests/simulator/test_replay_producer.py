"""The built producer: what it exports, and its whole life under the sanitizers."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ProducerError
from simulator.build import NATIVE, SANITIZERS, WARNINGS, build, compiler, main
from simulator.replay import ReplayCamera

# GenTL 1.5, chapter 6.3, and the functions that 1.6 added.
STANDARD = {
    "GCInitLib",
    "GCCloseLib",
    "GCGetInfo",
    "GCGetLastError",
    "GCReadPort",
    "GCWritePort",
    "GCGetPortURL",
    "GCGetPortInfo",
    "GCRegisterEvent",
    "GCUnregisterEvent",
    "GCGetNumPortURLs",
    "GCGetPortURLInfo",
    "GCReadPortStacked",
    "GCWritePortStacked",
    "EventGetData",
    "EventGetDataInfo",
    "EventGetInfo",
    "EventFlush",
    "EventKill",
    "TLOpen",
    "TLClose",
    "TLGetInfo",
    "TLGetNumInterfaces",
    "TLGetInterfaceID",
    "TLGetInterfaceInfo",
    "TLOpenInterface",
    "TLUpdateInterfaceList",
    "IFClose",
    "IFGetInfo",
    "IFGetNumDevices",
    "IFGetDeviceID",
    "IFUpdateDeviceList",
    "IFGetDeviceInfo",
    "IFOpenDevice",
    "IFGetParentTL",
    "DevGetPort",
    "DevGetNumDataStreams",
    "DevGetDataStreamID",
    "DevOpenDataStream",
    "DevGetInfo",
    "DevClose",
    "DevGetParentIF",
    "DSAnnounceBuffer",
    "DSAllocAndAnnounceBuffer",
    "DSFlushQueue",
    "DSStartAcquisition",
    "DSStopAcquisition",
    "DSGetInfo",
    "DSGetBufferID",
    "DSClose",
    "DSRevokeBuffer",
    "DSQueueBuffer",
    "DSGetBufferInfo",
    "DSGetBufferChunkData",
    "DSGetParentDev",
    "DSGetNumBufferParts",
    "DSGetBufferPartInfo",
    "DSAnnounceCompositeBuffer",
    "DSGetBufferInfoStacked",
    "DSGetBufferPartInfoStacked",
    "DSGetNumBufferSegments",
    "DSGetBufferSegmentInfo",
    "DSGetNumFlows",
    "DSGetFlowInfo",
}
NOT_INITIALIZED = -1002


def test_exports_the_standard_and_nothing_else(producer: Path) -> None:
    listing = subprocess.run(
        ["nm", "--dynamic", "--defined-only", "--format=posix", str(producer)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert {line.split()[0] for line in listing.splitlines()} == STANDARD


def test_exports_what_another_producer_exports(producer: Path) -> None:
    genicam = pytest.importorskip("genicam")
    other = ctypes.CDLL(str(Path(genicam.__file__).with_name("viky.cti")))
    for name in STANDARD:
        assert hasattr(other, name), name


def test_refuses_to_work_before_it_is_initialized(producer: Path) -> None:
    library = ctypes.CDLL(str(producer))
    assert ctypes.c_int32(library.TLOpen(ctypes.byref(ctypes.c_void_p()))).value == NOT_INITIALIZED
    code, text, size = ctypes.c_int32(), ctypes.create_string_buffer(256), ctypes.c_size_t(256)
    assert library.GCGetLastError(ctypes.byref(code), text, ctypes.byref(size)) == 0
    assert (code.value, text.value) == (NOT_INITIALIZED, b"GCInitLib was not called")


def test_is_built_once(producer: Path) -> None:
    built_ns = producer.stat().st_mtime_ns
    assert build() == producer
    assert producer.stat().st_mtime_ns == built_ns


def test_missing_compiler_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(ProducerError, match=r"no-such-compiler.*apt install"):
        build()
    assert main() == 2
    assert "no-such-compiler" in capsys.readouterr().err


def test_whole_life_without_a_sanitizer_report(tmp_path: Path) -> None:
    program = tmp_path / "lifecycle"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-g", "-pthread", *WARNINGS, *SANITIZERS, f"-I{NATIVE}"]
    source = Path(__file__).with_name("replay_lifecycle.c")
    built = subprocess.run(
        [compiler(), *flags, str(source), "-ldl", "-o", str(program)], capture_output=True, text=True, check=False
    )
    if "asan" in built.stderr:
        pytest.skip("the compiler's sanitizer library is not installed")
    assert built.returncode == 0, built.stderr

    cameras = tmp_path / "cameras"
    rng = np.random.default_rng(1)
    ReplayCamera.create(cameras, "A", rng.integers(0, 256, (2, 31, 33, 3), dtype=np.uint8)).close()
    ReplayCamera.create(cameras, "B", rng.integers(0, 256, (3, 16, 20), dtype=np.uint8)).close()
    (cameras / "broken.cam").write_bytes(b"REPLAYCM" + bytes(50_000))
    done = subprocess.run(
        [str(program), str(build(sanitize=True)), str(cameras / "A.cam")],
        env={**os.environ, "REPLAY_CAMERAS": str(cameras), "ASAN_OPTIONS": "detect_leaks=1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "done\n")
