"""Good parts: to train on, and held out."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ImageError
from training.data.good_parts import choose_held_out, load_good_parts
from training.data.settings import DataSettings

PLAIN = DataSettings()
SKIP = DataSettings(broken="skip", held_out_share=0)


@given(st.integers(0, 500), st.floats(0, 1, exclude_max=True), st.integers(0, 2**32))
def test_held_out_choice(count: int, share: float, seed: int) -> None:
    chosen = choose_held_out(count, share, seed)
    assert len(set(chosen)) == len(chosen) == min(round(share * count), max(count - 1, 0))
    assert list(chosen) == sorted(chosen)
    assert set(chosen) <= set(range(1, count))
    assert chosen == choose_held_out(count, share, seed)


def test_the_seed_chooses() -> None:
    assert len({choose_held_out(200, 0.1, seed) for seed in range(20)}) == 20


def test_train_and_held_out_are_all_of_them(mvtec: Path) -> None:
    parts = load_good_parts(mvtec, DataSettings(held_out_share=0.3), seed=5)
    assert (parts.train.shape, parts.held_out.shape) == ((7, 256, 256, 3), (3, 256, 256, 3))
    assert sorted(parts.train_names + parts.held_out_names) == [f"train/good/{index:03}.png" for index in range(10)]
    assert parts.train_names[0] == "train/good/000.png"
    assert parts.skipped == ()
    for name, image in zip(parts.train_names + parts.held_out_names, [*parts.train, *parts.held_out], strict=True):
        stored = cv2.cvtColor(cv2.imread(str(mvtec / name)), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(image, cv2.resize(stored, (256, 256), interpolation=cv2.INTER_LINEAR))


def test_validation_images_are_held_out_where_there_are_some(loco: Path) -> None:
    parts = load_good_parts(loco, DataSettings(held_out_share=0.5), seed=0)
    assert parts.train_names == ("train/good/000.png", "train/good/001.png")
    assert parts.held_out_names == ("validation/good/000.png",)


def test_visa(visa: Path) -> None:
    parts = load_good_parts(visa, PLAIN, seed=0)
    assert parts.train_names == tuple(f"Data/Images/Normal/{index:04}.JPG" for index in (1, 2, 3))
    assert parts.held_out.shape == (0, 256, 256, 3)


def test_the_hash_is_of_names_and_contents(mvtec: Path, tmp_path: Path) -> None:
    original = load_good_parts(mvtec, PLAIN, seed=0)
    copy = shutil.copytree(mvtec, tmp_path / "elsewhere")
    shutil.rmtree(copy / "test")
    assert load_good_parts(copy, PLAIN, seed=1).sha256 == original.sha256
    (copy / "train/good/003.png").rename(copy / "train/good/003b.png")
    renamed = load_good_parts(copy, PLAIN, seed=0).sha256
    shutil.copy(copy / "train/good/004.png", copy / "train/good/003b.png")
    changed = load_good_parts(copy, PLAIN, seed=0).sha256
    assert len({original.sha256, renamed, changed}) == 3


def test_broken_images_are_refused_and_counted(mvtec: Path) -> None:
    for index in (4, 7, 8):
        (mvtec / f"train/good/{index:03}.png").write_bytes(b"broken")
    with pytest.raises(ImageError, match=r"00\d.png.*\(2 more cannot be used\)") as refused:
        load_good_parts(mvtec, PLAIN, seed=0)
    assert "skip" in refused.value.remedy


def test_broken_images_are_skipped_and_said(mvtec: Path, caplog: pytest.LogCaptureFixture) -> None:
    (mvtec / "train/good/000.png").write_bytes(b"broken")
    with caplog.at_level(logging.WARNING):
        parts = load_good_parts(mvtec, SKIP, seed=0)
    ((name, reason),) = parts.skipped
    assert name == "train/good/000.png"
    assert "cannot be read" in reason
    assert "000.png" in caplog.text
    assert parts.train_names == tuple(f"train/good/{index:03}.png" for index in range(1, 10))
    assert parts.train.shape == (9, 256, 256, 3)
    (mvtec / "train/good/000.png").unlink()
    assert load_good_parts(mvtec, DataSettings(held_out_share=0), seed=0).sha256 == parts.sha256


@pytest.mark.parametrize("good", [0, 1])
def test_too_few_images_are_refused(tmp_path: Path, write: Callable[..., Path], good: int) -> None:
    directory = tmp_path / "part/train/good"
    directory.mkdir(parents=True)
    for index in range(good):
        write(f"part/train/good/{index}.png")
    (directory / "broken.png").write_bytes(b"broken")
    with pytest.raises(ImageError, match=rf"has {good} images .*\(0 held out, 1 skipped\)"):
        load_good_parts(tmp_path / "part", SKIP, seed=0)


def test_a_white_level_never_reached_is_said(write: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b"):
        root = write(f"dark/{name}.png", np.full((8, 8), 4095, np.uint16)).parent
    load_good_parts(root, PLAIN, seed=0)
    assert "15 of 255" in caplog.text
    caplog.clear()
    assert load_good_parts(root, DataSettings(white_level=4095), seed=0).train.min() == 255
    assert caplog.text == ""
