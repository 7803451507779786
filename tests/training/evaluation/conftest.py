"""A small product with two types of defects, and detectors that were trained on it for a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from training.data.settings import DataSettings
from training.distributed import World
from training.networks.backbones import build_backbone
from training.run import Run
from training.settings import TrainSettings
from training.train import train_run

SIZE_PX = (96, 120)
Train = Callable[[str, TrainSettings], Run]


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight good parts to train on; to test with two good ones, two scratches, two stains of which one has no mask."""
    root = tmp_path_factory.mktemp("data") / "washer"
    rng = np.random.default_rng(0)

    def part() -> np.ndarray:
        image = np.full((*SIZE_PX, 3), 120, np.uint8)
        cv2.circle(image, (60, 48), 36, (170, 170, 165), -1)
        cv2.circle(image, (60, 48), 14, (70, 70, 75), -1)
        return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)

    def write(name: str, image: np.ndarray) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / name), image)

    for index in range(8):
        write(f"train/good/{index}.png", part())
    for index in range(2):
        write(f"test/good/{index}.png", part())
        scratched, mask = part(), np.zeros(SIZE_PX, np.uint8)
        for image, colour in ((scratched, (20, 20, 20)), (mask, 255)):
            cv2.line(image, (30, 30 + 20 * index), (55, 60), colour, 3)
        write(f"test/scratch/{index}.png", scratched)
        write(f"ground_truth/scratch/{index}_mask.png", mask)
        stained, mask = part(), np.zeros(SIZE_PX, np.uint8)
        for image, colour in ((stained, (60, 90, 200)), (mask, 255)):
            cv2.circle(image, (80, 40 + 10 * index), 7, colour, -1)
        write(f"test/stain/{index}.png", stained)
        if index:
            write(f"ground_truth/stain/{index}_mask.png", mask)
    return root


@pytest.fixture(scope="session")
def train(product: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Train on the product with a random backbone."""
    root = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    torch.save(build_backbone("resnet18").state_dict(), root / "resnet18.pth")

    def train(name: str, settings: TrainSettings) -> Run:
        return train_run(product, root / "resnet18.pth", settings, root / name, World(0, 1, torch.device("cpu")), 2**30)

    return train


@pytest.fixture(scope="session")
def settings() -> TrainSettings:
    """One step; two of the eight good parts are held out."""
    return TrainSettings(epochs=1, batch=8, precision="float32", data=DataSettings(held_out_share=0.25))


@pytest.fixture(scope="session")
def run(train: Train, settings: TrainSettings) -> Run:
    return train("seed_0", settings)


@pytest.fixture(scope="session")
def other_seed(train: Train, settings: TrainSettings) -> Run:
    return train("seed_1", settings.model_copy(update={"seed": 1}))
