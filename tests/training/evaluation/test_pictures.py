"""Pictures of unusual input."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.labelled import LabelledPart
from training.evaluation.pictures import PANEL_PX, draw_histogram, draw_part

YELLOW_BGR = (0, 214, 255)


@pytest.mark.parametrize(
    ("scores", "threshold"),
    [([0.5], 0.5), ([0.5, 0.5], None), ([-3, 2], 7), ([1e-6, 1], 1e-6), ([1e-6, 1], 1.0), ([0, 0], 1e-12)],
)
def test_any_scores_make_a_histogram(scores: list[float], threshold: float | None, tmp_path: Path) -> None:
    draw_histogram(np.array(scores, np.float32), np.arange(len(scores)) % 2 > 0, threshold, tmp_path / "picture.png")
    assert cv2.imread(str(tmp_path / "picture.png")).std() > 5


@pytest.mark.parametrize("has_mask", [True, False])
def test_part_has_the_files_shape_and_its_defect_an_outline(has_mask: bool, tmp_path: Path) -> None:
    mask = np.zeros((256, 256), np.uint8)
    mask[100:140, 100:140] = 1
    image = np.full((256, 256, 3), 100, np.uint8)
    part = LabelledPart("x", "dent", image, mask if has_mask else None, mask if has_mask else None, (300, 400))
    anomaly_map = mask.astype(np.float32)
    draw_part(part, anomaly_map, 0.5, tmp_path / "picture.png")
    picture = cv2.imread(str(tmp_path / "picture.png"))
    height_px = PANEL_PX * 3 // 4
    assert picture.shape == (height_px, 3 * PANEL_PX + 16, 3)
    plain, heat, marked = (picture[:, start : start + PANEL_PX] for start in (0, PANEL_PX + 8, 2 * PANEL_PX + 16))
    assert (plain == 100).all()
    assert (heat[height_px // 2, 120] != 100).any()
    assert (heat[:40] == 100).all()
    near_yellow = np.abs(marked.astype(int) - YELLOW_BGR).max(axis=2) < 60
    assert near_yellow.any() == has_mask
    assert not near_yellow[60:120, 90:150][20:40, 20:40].any()
