"""A product of a few striped pictures, and weights of a backbone that was never trained."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from training.networks.backbones import build_backbone


@pytest.fixture(scope="session")
def backbone_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(build_backbone("resnet18").state_dict(), path)
    return path


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MVTec layout: 8 good parts to train on; 2 good, 2 scratched, 2 stained to test, one stain without a mask."""
    root = tmp_path_factory.mktemp("data") / "stripes"
    rng = np.random.default_rng(0)

    def write(path: Path, image: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), image)

    def part() -> np.ndarray:
        stripes = 128 + 60 * np.sin(np.arange(120) / 4 + rng.uniform(0, 0.5))
        noise = rng.normal(0, 4, (96, 120, 3))
        return np.clip(stripes[None, :, None] + noise, 0, 255).astype(np.uint8)

    for index in range(8):
        write(root / f"train/good/{index:03}.png", part())
    for index in range(2):
        write(root / f"test/good/{index:03}.png", part())
        for defect, colour in (("scratch", 255), ("stain", 20)):
            image, mask = part(), np.zeros((96, 120), np.uint8)
            corner = rng.integers(10, 60, 2)
            box = (int(corner[0]), int(corner[1]), 24, 6 if defect == "scratch" else 20)
            for canvas, value in ((image, (colour,) * 3), (mask, 255)):
                cv2.rectangle(canvas, box, value, -1)
            write(root / f"test/{defect}/{index:03}.png", image)
            if (defect, index) != ("stain", 1):
                write(root / f"ground_truth/{defect}/{index:03}_mask.png", mask)
    return root
