"""A backbone small enough to train a student against within a second, and parts to look at."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edge.frame import Image


class TinyBackbone(nn.Module):
    """Four taps as a ResNet has them, at 1/4, 1/4, 1/8 and 1/16."""

    tap_channels = (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 4, 4)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(narrow, wide, 3, stride, 1), nn.BatchNorm2d(wide), nn.LeakyReLU())
            for narrow, wide, stride in ((4, 8, 1), (8, 16, 2), (16, 32, 2))
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        taps = [self.stem(x)]
        for layer in self.layers:
            taps.append(layer(taps[-1]))
        return tuple(taps)


@pytest.fixture
def tiny_backbone() -> TinyBackbone:
    torch.manual_seed(0)
    return TinyBackbone().eval()


@pytest.fixture(scope="session")
def good_parts() -> Image:
    """Eight discs on a ground, with noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:256, :256]
    disc = np.where(np.hypot(rows - 128, columns - 128) < 90, 170, 90)[..., None]
    return np.clip(disc + rng.normal(0, 2, (8, 256, 256, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def defective_part(good_parts: Image) -> Image:
    """The last of them with a dark blot in rows 96 to 128, columns 128 to 160."""
    part = good_parts[-1:].copy()
    part[:, 96:128, 128:160] //= 3
    return part
