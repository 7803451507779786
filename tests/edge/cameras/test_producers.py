"""Finding producers, and telling what is none; listing the cameras behind them."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.cameras.camera import CameraInfo
from edge.cameras.genicam import GenicamCamera
from edge.cameras.listing import add_command, list_cameras
from edge.cameras.producers import find_producers
from edge.config import GenicamConfig, TriggerConfig
from edge.errors import ProducerError

VIKY_CAMERAS = [CameraInfo(str(number), "", "Machine Vision Games Ltd.", "Viky") for number in range(3)]


def run_verb(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers())
    parsed = parser.parse_args(["cameras", *arguments])
    status: int = parsed.handler(parsed)
    return status


@pytest.fixture(params=["text", "program", "library", "missing", "crashing", "refusing"])
def bad_producer(
    request: pytest.FixtureRequest, tmp_path: Path, build_library: Callable[[str], Path]
) -> tuple[Path, str]:
    """A file that is no producer, and what must be said about it."""
    path = tmp_path / f"{request.param}.cti"
    if request.param == "missing":
        return path, "does not exist"
    if request.param == "crashing":
        return build_library("int GCInitLib(void) { return *(volatile int *)0; }"), "SIGSEGV"
    if request.param == "refusing":
        return build_library("int GCInitLib(void) { return -1001; }"), "does not open"
    if request.param == "text":
        path.write_text("this is no producer\n")
    elif request.param == "program":
        shutil.copy("/bin/true", path)
    else:
        return build_library("int answer(void) { return 42; }"), "is a library, but no GenTL producer"
    return path, "cannot be loaded"


def test_a_file_that_is_no_producer_is_named(bad_producer: tuple[Path, str]) -> None:
    path, problem = bad_producer
    camera = GenicamCamera(GenicamConfig(producer=path, serial="1"), TriggerConfig())
    with pytest.raises(ProducerError, match=problem) as refused:
        camera.start(20.0)
    assert str(path) in refused.value.problem
    assert refused.value.remedy
    with pytest.raises(ProducerError, match=problem) as refused:
        list_cameras(path)
    assert str(path) in refused.value.problem


def test_the_search_path_is_used(viky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENICAM_GENTL64_PATH", f"{tmp_path}:{viky.parent}:")
    assert find_producers(None) == [viky]
    assert list_cameras(None) == VIKY_CAMERAS


@pytest.mark.parametrize("value", [None, "", "/nowhere"])
def test_an_empty_search_path_is_told(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENICAM_GENTL64_PATH", raising=False)
    if value is not None:
        monkeypatch.setenv("GENICAM_GENTL64_PATH", value)
    with pytest.raises(ProducerError, match="'/nowhere'" if value else "names no folder"):
        find_producers(None)


def test_the_verb_prints_a_table(viky: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("--producer", str(viky)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["serial", "0", "1", "2"]
    assert lines[2].split("  ")[-1] == "Viky"


def test_the_verb_prints_json(viky: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("--producer", str(viky), "--json") == 0
    assert [CameraInfo(**camera) for camera in json.loads(capsys.readouterr().out)] == VIKY_CAMERAS
