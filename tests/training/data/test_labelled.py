"""Labelled test images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ImageError
from training.data.labelled import LabelledPart, read_labelled
from training.data.settings import DataSettings

DATA = Path(__file__).parents[4] / "shared" / "data"
PLAIN = DataSettings()


def read(root: Path, settings: DataSettings = PLAIN) -> dict[str, LabelledPart]:
    return {part.name: part for part in read_labelled(root, settings)}


def test_parts_and_their_masks(mvtec: Path) -> None:
    parts = read(mvtec)
    assert list(parts) == ["test/good/000.png", "test/scratch/000.png", "test/scratch/001.png"]
    good, scratch, unmarked = parts.values()
    assert (good.defect, scratch.defect, unmarked.defect) == (None, "scratch", "scratch")
    assert all(part.image.shape == (256, 256, 3) and part.original_size_px == (30, 40) for part in parts.values())
    assert good.gt_mask is not None
    assert good.gt_mask.shape == (30, 40)
    assert not good.gt_mask.any()
    assert unmarked.gt_mask is None
    assert unmarked.gt_mask_256 is None
    assert scratch.gt_mask is not None
    assert scratch.gt_mask_256 is not None
    assert scratch.gt_mask.sum() == 3 * 10
    rows, columns = np.nonzero(scratch.gt_mask_256)
    # Pixels 3..5 of 30 and 10..19 of 40, by the centres of the 256 cells.
    assert (rows.min(), rows.max() + 1) == (26, 51)
    assert (columns.min(), columns.max() + 1) == (64, 128)
    assert scratch.gt_mask_256.sum() == (51 - 26) * (128 - 64)


def test_region_of_interest_cuts_image_and_mask(mvtec: Path) -> None:
    part = read(mvtec, DataSettings(roi_xywh=(10, 3, 20, 6)))["test/scratch/000.png"]
    assert part.original_size_px == (6, 20)
    assert part.gt_mask is not None
    assert part.gt_mask.shape == (6, 20)
    np.testing.assert_array_equal(part.gt_mask, np.outer([1] * 3 + [0] * 3, [1] * 10 + [0] * 10))


def test_several_masks_of_one_image_are_united(loco: Path) -> None:
    parts = read(loco)
    logical = parts["test/logical_anomalies/007.png"].gt_mask
    structural = parts["test/structural_anomalies/007.png"].gt_mask
    assert logical is not None
    assert structural is not None
    assert (logical.sum(), structural.sum()) == (2 * 3 + 3 * 3 - 1, 3 * 3)


def test_visa(visa: Path) -> None:
    anomaly, normal = read(visa).values()
    assert (anomaly.name, anomaly.defect) == ("Data/Images/Anomaly/000.JPG", "anomaly")
    assert anomaly.gt_mask is not None
    assert anomaly.gt_mask.sum() == 1
    assert (normal.name, normal.defect) == ("Data/Images/Normal/0000.JPG", None)


def test_one_part_is_read_at_a_time(mvtec: Path) -> None:
    (mvtec / "test/scratch/001.png").write_bytes(b"broken")
    parts = read_labelled(mvtec, DataSettings(broken="skip"))
    assert [next(parts).name, next(parts).name] == ["test/good/000.png", "test/scratch/000.png"]
    with pytest.raises(ImageError, match=r"scratch/001\.png"):
        next(parts)


def test_a_mask_of_another_size_is_refused(mvtec: Path, write: Callable[..., Path]) -> None:
    write("bottle/ground_truth/scratch/001_mask.png", np.zeros((15, 20), np.uint8))
    with pytest.raises(ImageError, match=r"001_mask.png' is 20x15, its image is 40x30"):
        read(mvtec)


def test_without_test_images_there_is_nothing_to_evaluate(tmp_path: Path, write: Callable[..., Path]) -> None:
    write("parts/a.png")
    with pytest.raises(ImageError, match="no test images"):
        read(tmp_path / "parts")


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no images at {DATA}")
def test_a_real_product() -> None:
    parts = read(DATA / "piped" / "PA_BDP01_TL")
    assert len(parts) == 60
    for part in parts.values():
        assert part.original_size_px == (128, 128)
        assert part.gt_mask is not None
        assert part.gt_mask_256 is not None
        assert part.gt_mask.any() == part.gt_mask_256.any() == (part.defect is not None)
