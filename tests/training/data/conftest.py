"""Products as they are published, built small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

Write = Callable[..., Path]
SIZE_PX = (30, 40)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write an image below tmp_path: given samples, or 30x40 pixels that depend on the name."""

    def write(name: str, samples: npt.NDArray[Any] | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if samples is None:
            seed = list(name.encode())
            samples = np.random.default_rng(seed).integers(0, 256, (*SIZE_PX, 3), dtype=np.uint8)
        assert cv2.imwrite(str(path), samples)
        return path

    return write


@pytest.fixture
def mvtec(tmp_path: Path, write: Write) -> Path:
    """Ten good parts to train on; a scratch with a mask, one without, and a good part to test with."""
    for index in range(10):
        write(f"bottle/train/good/{index:03}.png")
    for name in ("scratch/000.png", "scratch/001.png", "good/000.png"):
        write(f"bottle/test/{name}")
    mask = np.zeros(SIZE_PX, np.uint8)
    mask[3:6, 10:20] = 255
    write("bottle/ground_truth/scratch/000_mask.png", mask)
    return tmp_path / "bottle"


@pytest.fixture
def loco(tmp_path: Path, write: Write) -> Path:
    """Two masks of one image, each with its own value; validation images."""
    for name in ("train/good/000.png", "train/good/001.png", "validation/good/000.png", "test/good/000.png"):
        write(f"juice/{name}")
    write("juice/test/logical_anomalies/007.png")
    write("juice/test/structural_anomalies/007.png")
    masks = np.zeros((2, *SIZE_PX), np.uint8)
    masks[0, 0:2, 0:3] = 1
    masks[1, 1:4, 2:5] = 254
    write("juice/ground_truth/logical_anomalies/007/000.png", masks[0])
    write("juice/ground_truth/logical_anomalies/007/001.png", masks[1])
    write("juice/ground_truth/structural_anomalies/007/000.png", masks[1])
    return tmp_path / "juice"


@pytest.fixture
def visa(tmp_path: Path, write: Write) -> Path:
    """Rows in no order, as in the published split, with those of another object between them."""
    rows = ["object,split,label,image,mask"]
    for index, split in ((3, "train"), (0, "test"), (1, "train"), (2, "train")):
        image = f"candle/Data/Images/Normal/{index:04}.JPG"
        write(image)
        rows.append(f"candle,{split},normal,{image},")
        rows.append(f"capsules,{split},normal,{image.replace('candle', 'capsules')},")
    write("candle/Data/Images/Anomaly/000.JPG")
    mask = np.zeros(SIZE_PX, np.uint8)
    mask[0, 0] = 1
    write("candle/Data/Masks/Anomaly/000.png", mask)
    rows.append("candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png")
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv" / "1cls.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "candle"
