"""What a detector reconstructs: the backbone's taps on one 64×64 grid, and the 4×4 cells a transformer sees of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training.networks.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone

FEATURE_SIZE = 64
PATCH = 4
GRID = FEATURE_SIZE // PATCH
TOKENS = GRID * GRID


def extract_features(backbone: Backbone, image: Tensor, normalise: bool = True) -> Tensor:
    """All taps resized to 64×64 and concatenated.

    Args:
        backbone: frozen, in eval mode.
        image: float32 (N, 3, 256, 256), RGB in 0..255.
        normalise: with ImageNet's mean and deviation; False leaves 0..1.

    Returns:
        (N, C, 64, 64), C the sum of the backbone's tap channels.
    """
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if normalise else ((0.0,) * 3, (1.0,) * 3)
    mean_255, std_255 = (torch.tensor(value, device=image.device).view(3, 1, 1) * 255 for value in (mean, std))
    size = (FEATURE_SIZE, FEATURE_SIZE)
    return torch.cat(
        [
            level if level.shape[2:] == size else F.interpolate(level, size, mode="bilinear", align_corners=True)
            for level in backbone((image - mean_255) / std_255)
        ],
        dim=1,
    )


def patchify(features: Tensor) -> Tensor:
    """(N, C, 64, 64) → cells (N, 256, 16·C): row by row, each cell pixel by pixel, channels last."""
    n, c, _, _ = features.shape
    cells = features.reshape(n, c, GRID, PATCH, GRID, PATCH)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(n, TOKENS, PATCH * PATCH * c)


def unpatchify(cells: Tensor) -> Tensor:
    """The inverse of `patchify`."""
    n, _, d = cells.shape
    pixels = cells.reshape(n, GRID, GRID, PATCH, PATCH, d // PATCH**2)
    return pixels.permute(0, 5, 1, 3, 2, 4).reshape(n, d // PATCH**2, FEATURE_SIZE, FEATURE_SIZE)
