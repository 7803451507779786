"""What a detector reconstructs: the backbone's taps on one 64×64 grid, cut into the 4×4 cells a transformer sees."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge.frame import Image
from training.image_sets import evenly
from training.networks.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone

FEATURE_SIZE = 64
PATCH = 4
GRID = FEATURE_SIZE // PATCH
TOKENS = GRID * GRID
MAX_STATISTICS_IMAGES = 64
MIN_DEVIATION_SHARE = 0.01


class CellExtractor(nn.Module):
    """Camera pixels → cells.

    Args:
        backbone: frozen, in eval mode.
        scale: float32 (C,), what each channel is multiplied with; C is the sum of the backbone's tap channels.
        normalise: the image with ImageNet's mean and deviation; False leaves 0..1.
    """

    mean_255: Tensor
    std_255: Tensor
    scale: Tensor

    def __init__(self, backbone: Backbone, scale: Tensor, normalise: bool = True) -> None:
        super().__init__()
        self.backbone = backbone
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if normalise else ((0.0,) * 3, (1.0,) * 3)
        self.register_buffer("mean_255", torch.tensor(mean).view(3, 1, 1) * 255)
        self.register_buffer("std_255", torch.tensor(std).view(3, 1, 1) * 255)
        self.register_buffer("scale", scale.view(-1, 1, 1))

    def features(self, image: Tensor) -> Tensor:
        """float32 (N, 3, 256, 256) RGB in 0..255 → all taps resized to 64×64, concatenated, scaled: (N, C, 64, 64)."""
        size = (FEATURE_SIZE, FEATURE_SIZE)
        levels = [
            level if level.shape[2:] == size else F.interpolate(level, size, mode="bilinear", align_corners=True)
            for level in self.backbone((image - self.mean_255) / self.std_255)
        ]
        return torch.cat(levels, dim=1) * self.scale

    def forward(self, image: Tensor) -> Tensor:
        """float32 (N, 3, 256, 256) RGB in 0..255 → cells (N, 256, 16·C)."""
        return patchify(self.features(image))


def feature_statistics(backbone: Backbone, images: Image, device: torch.device) -> tuple[Tensor, Tensor]:
    """`channel_statistics` of what a `CellExtractor` without a scale says of at most 64 of the images."""
    extractor = CellExtractor(backbone, torch.ones(sum(backbone.tap_channels))).to(device)
    chosen = torch.from_numpy(images[evenly(len(images), MAX_STATISTICS_IMAGES)])
    return channel_statistics(
        extractor.features(image.to(device).permute(0, 3, 1, 2).float()) for image in torch.split(chosen, 1)
    )


@torch.no_grad()
def channel_statistics(maps: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of maps (N, C, h, w): float64 (C,) each.

    Deviations are not below a hundredth of their mean: a channel that hardly ever says anything must not, scaled by
    its deviation, outshout all others.
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for some in maps:
        values = some.double().transpose(0, 1).flatten(1)
        count += values.shape[1]
        total, squares = values.sum(1) + total, values.square().sum(1) + squares
    mean = total / count
    deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
    return mean, deviation.clamp(min=MIN_DEVIATION_SHARE * deviation.mean())


def patchify(features: Tensor) -> Tensor:
    """(N, C, 64, 64) → cells (N, 256, 16·C): row by row, each cell pixel by pixel, channels last."""
    n, c, _, _ = features.shape
    # First the channels to the end, then whole lines of a cell: runtimes are slow at both in one permutation.
    lines = features.flatten(2).transpose(1, 2).reshape(n, GRID, PATCH, GRID, PATCH * c)
    return lines.transpose(2, 3).reshape(n, TOKENS, PATCH * PATCH * c)


def unpatchify(cells: Tensor) -> Tensor:
    """The inverse of `patchify`."""
    n, _, d = cells.shape
    c = d // PATCH**2
    lines = cells.reshape(n, GRID, GRID, PATCH, PATCH * c).transpose(2, 3)
    return lines.reshape(n, FEATURE_SIZE**2, c).transpose(1, 2).reshape(n, c, FEATURE_SIZE, FEATURE_SIZE)
