"""The camera file: its layout, and what the bench can do with it while nobody streams."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from edge.errors import CameraSetupError, ImageError
from edge.frame import Image
from simulator.build import NATIVE, compiler
from simulator.camera_file import HEADER, LOG_ENTRY
from simulator.replay import ReplayCamera

GREY: Image = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def layout_assertions(struct: str, dtype: np.dtype[np.void]) -> list[str]:
    lines = [f'_Static_assert(sizeof({struct}) == {dtype.itemsize}, "size");']
    for name, (field, offset) in ((name, dtype.fields[name][:2]) for name in dtype.names or ()):
        lines.append(f'_Static_assert(offsetof({struct}, {name}) == {offset}, "{name}");')
        lines.append(f'_Static_assert(sizeof((({struct} *)0)->{name}) == {field.itemsize}, "{name}");')
    return lines


def compile_c(source: str) -> subprocess.CompletedProcess[str]:
    command = [compiler(), "-std=c11", "-fsyntax-only", f"-I{NATIVE}", "-x", "c", "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=False)


def test_both_sides_agree_on_the_layout() -> None:
    assertions = [
        *layout_assertions("struct camera_header", HEADER),
        *layout_assertions("struct camera_log_entry", LOG_ENTRY),
    ]
    done = compile_c('#include "camera_file.h"\n' + "\n".join(assertions))
    assert done.returncode == 0, done.stderr
    # The check itself can fail:
    assert compile_c('#include "camera_file.h"\n' + assertions[1].replace("== 0", "== 1")).returncode != 0


def test_layout_has_no_holes() -> None:
    for dtype in (HEADER, LOG_ENTRY):
        fields = [dtype.fields[name][0] for name in dtype.names]
        assert sum(field.itemsize for field in fields) == dtype.itemsize


def test_open_sees_what_create_wrote(tmp_path: Path) -> None:
    with ReplayCamera.create(tmp_path / "new", "A1", GREY, user_id="über Band 3") as created:
        created.show(1)
        created.drop_every = 7
    with ReplayCamera.open(tmp_path / "new" / "A1.cam") as opened:
        assert (opened.serial, opened.user_id, opened.image_count) == ("A1", "über Band 3", 2)
        assert opened.next_image == 1
        assert opened.drop_every == 7
        assert opened.online
        assert opened.exposures() == []
        assert opened.counters.exposed == 0


def test_going_offline_twice_ends_connections_once(tmp_path: Path) -> None:
    with ReplayCamera.create(tmp_path, "A1", GREY) as camera:
        camera.online = True
        before = camera._header["link_epoch"][0]
        camera.online = False
        camera.online = False
        camera.online = True
        assert camera.online
        assert camera._header["link_epoch"][0] == before + 1


@pytest.mark.parametrize(
    "images",
    [GREY.astype(np.float32), GREY[0], np.zeros((2, 3, 4, 4), np.uint8), np.zeros((0, 3, 4), np.uint8)],
    ids=["float", "one image", "four channels", "none"],
)
def test_images_of_another_kind_are_refused(tmp_path: Path, images: Image) -> None:
    with pytest.raises(ImageError, match="shape"):
        ReplayCamera.create(tmp_path, "A1", images)


@pytest.mark.parametrize("serial", ["", "a/b", ".hidden", "x" * 64])
def test_impossible_serials_are_refused(tmp_path: Path, serial: str) -> None:
    with pytest.raises(CameraSetupError, match="serial"):
        ReplayCamera.create(tmp_path, serial, GREY)


def test_only_an_image_that_is_there_can_be_shown(tmp_path: Path) -> None:
    with ReplayCamera.create(tmp_path, "A1", GREY) as camera, pytest.raises(ImageError, match="image 2 of 2"):
        camera.show(2)


@pytest.mark.parametrize("content", [None, b"", b"no camera", b"REPLAYCM\xff\0\0\0" + bytes(100_000)])
def test_files_that_are_no_camera_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.cam"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CameraSetupError, match=r"x\.cam"):
        ReplayCamera.open(path)
