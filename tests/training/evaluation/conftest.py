"""A small product with two types of defects, and detectors that were trained on it for a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from training.data.settings import DataSettings
from training.distributed import World
from training.run import Run
from training.settings import TrainSettings
from training.train import train_run

Train = Callable[[str, TrainSettings], Run]


@pytest.fixture(scope="session")
def train(product: Path, backbone_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Train on the product with a random backbone."""
    root = tmp_path_factory.mktemp("runs")

    def train(name: str, settings: TrainSettings) -> Run:
        return train_run(product, backbone_weights, settings, root / name, World(0, 1, torch.device("cpu")), 2**30)

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
