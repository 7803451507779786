"""A directory as a camera."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.cameras.camera import CameraState, FrameArrived, FramesMissing, StateChanged, TriggerFailed
from edge.cameras.folder import FolderCamera, read_image
from edge.config import FolderConfig, TriggerConfig
from edge.errors import CameraSetupError, ImageError
from edge.pixel_format import PixelFormat

SOFTWARE = TriggerConfig(mode="software")


def make(directory: Path, trigger: TriggerConfig = SOFTWARE) -> FolderCamera:
    return FolderCamera(FolderConfig(kind="folder", directory=directory), trigger)


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Any]:
    random = np.random.default_rng(1)
    written = {
        "a.png": random.integers(0, 256, (4, 6), dtype=np.uint8),
        "b.png": random.integers(0, 256, (4, 6, 3), dtype=np.uint8),
        "c.tiff": random.integers(0, 65536, (4, 6), dtype=np.uint16),
        "d.png": random.integers(0, 256, (4, 6, 4), dtype=np.uint8),
    }
    for name, samples in written.items():
        cv2.imwrite(str(tmp_path / name), samples)
    (tmp_path / "notes.txt").write_text("no image")
    return written


def test_images_come_in_name_order_and_over_again(
    tmp_path: Path, images: dict[str, Any], bench: Callable[..., Any]
) -> None:
    folder = bench(make(tmp_path)).start()
    for trigger_id in range(100, 105):
        folder.camera.trigger(trigger_id)
    frames = [folder.frame() for _ in range(5)]
    assert [frame.frame_id for frame in frames] == [1, 2, 3, 4, 5]
    assert [frame.trigger_id for frame in frames] == [100, 101, 102, 103, 104]
    assert folder.states == [CameraState.STREAM]
    np.testing.assert_array_equal(frames[0].image, images["a.png"])
    np.testing.assert_array_equal(frames[1].image, images["b.png"])
    np.testing.assert_allclose(frames[2].image, images["c.tiff"] / 65535 * 255, atol=1)
    np.testing.assert_array_equal(frames[3].image, images["d.png"][..., :3])
    np.testing.assert_array_equal(frames[4].image, images["a.png"])
    formats = [frame.pixel_format for frame in frames]
    assert formats == [PixelFormat.MONO8, PixelFormat.BGR8, PixelFormat.MONO8, PixelFormat.BGR8, PixelFormat.MONO8]
    assert all(frame.is_complete and frame.image.flags.c_contiguous for frame in frames)


def test_free_run_keeps_its_interval(tmp_path: Path, images: dict[str, Any], bench: Callable[..., Any]) -> None:
    folder = bench(make(tmp_path, TriggerConfig(mode="free_run", interval_ms=30))).start()
    frames = [folder.frame() for _ in range(5)]
    took_s = (frames[-1].received_monotonic_ns - frames[0].received_monotonic_ns) / 1e9
    assert 0.1 <= took_s < 1.0
    assert all(frame.trigger_id is None for frame in frames)
    assert folder.camera.poll(0.0) is None


def test_without_a_trigger_nothing_comes(tmp_path: Path, images: dict[str, Any], bench: Callable[..., Any]) -> None:
    folder = bench(make(tmp_path)).start()
    assert isinstance(folder.camera.poll(0.0), StateChanged)
    before_s = time.monotonic()
    assert folder.camera.poll(0.05) is None
    assert time.monotonic() - before_s >= 0.05


def test_a_broken_image_fails_its_trigger_only(
    tmp_path: Path, images: dict[str, Any], bench: Callable[..., Any]
) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG broken")
    folder = bench(make(tmp_path)).start()
    folder.camera.trigger(1)
    folder.camera.trigger(2)
    failed = folder.wait_for(TriggerFailed)
    assert failed.trigger_id == 1
    assert "a.png" in failed.reason
    assert folder.frame().trigger_id == 2


def test_a_broken_image_is_missing_in_free_run(
    tmp_path: Path, images: dict[str, Any], bench: Callable[..., Any]
) -> None:
    cv2.imwrite(str(tmp_path / "b.tiff"), np.zeros((2, 2), np.float32))
    folder = bench(make(tmp_path, TriggerConfig(mode="free_run", interval_ms=0))).start()
    assert folder.wait_for(FramesMissing) == FramesMissing(1, 3)
    assert [event.frame.frame_id for event in folder.events if isinstance(event, FrameArrived)] == [1, 2]


def test_a_trigger_after_stop_fails(tmp_path: Path, images: dict[str, Any], bench: Callable[..., Any]) -> None:
    folder = bench(make(tmp_path)).start()
    folder.camera.trigger(1)
    folder.camera.stop()
    folder.camera.trigger(2)
    folder.drain()
    failed = {event.trigger_id for event in folder.events if isinstance(event, TriggerFailed)}
    assert failed == {1, 2}
    assert folder.camera.info is None


def test_software_trigger_of_a_free_running_folder_fails(
    tmp_path: Path, images: dict[str, Any], bench: Callable[..., Any]
) -> None:
    folder = bench(make(tmp_path, TriggerConfig(mode="free_run"))).start()
    folder.camera.trigger(5)
    assert folder.wait_for(TriggerFailed) == TriggerFailed(5, "trigger.mode is 'free_run'")


@pytest.mark.parametrize("content", [None, {}, {"only.png": b"broken"}, {"only.txt": b"text"}])
def test_a_directory_without_images_is_refused(tmp_path: Path, content: dict[str, bytes] | None) -> None:
    directory = tmp_path / "pictures"
    if content is not None:
        directory.mkdir()
        for name, data in content.items():
            (directory / name).write_bytes(data)
    with pytest.raises(ImageError, match="pictures") as refused:
        make(directory).start(1.0)
    assert ("only.png" in str(refused.value)) is (content is not None and "only.png" in content)


def test_a_folder_has_no_line(tmp_path: Path, images: dict[str, Any]) -> None:
    with pytest.raises(CameraSetupError, match="no trigger line"):
        make(tmp_path, TriggerConfig(mode="line")).start(1.0)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff"])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"part.{suffix}"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(ImageError, match=path.name):
        read_image(path)
