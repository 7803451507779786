"""MFRNet's restoration network: hybrid transformer blocks in a U over three resolutions."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from training.networks.mfrnet_blocks import HybridBlock
from training.networks.vit import init_transformer

PresetName = Literal["tiny", "base"]


class Preset(BaseModel):
    """Sizes of the network, the finest resolution first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dims: tuple[int, int, int] = Field(description="channels at 64, 32 and 16")
    depths: tuple[int, int, int] = Field(description="blocks on the way down at 64, 32 and 16")
    up_depths: tuple[int, int] = Field(description="blocks on the way up at 64 and 32")
    head_dim: int = Field(default=64, description="channels of a head of attention; the heads' number follows")
    pools: tuple[int, ...] = Field(default=(8, 4, 2, 1), description="grids whose cells are keys and values")
    ffn_ratio: int = Field(default=4, description="how much wider a block is inside")


PRESETS: Mapping[PresetName, Preset] = MappingProxyType(
    {
        "tiny": Preset(dims=(64, 96, 128), depths=(1, 1, 2), up_depths=(1, 1), head_dim=32),
        "base": Preset(dims=(256, 384, 512), depths=(2, 2, 4), up_depths=(2, 2)),
    }
)


class RestorationNetwork(nn.Module):
    """Features with cells missing → what is missing.

    The first and the last layer are 1×1, so they run once per image instead of once per mask: a learned token in place
    of hidden cells *behind* the first layer can do all that one before it can with the mask as a further channel, and
    Σ (1 − M_i) = 1 lets the composite be taken *before* the last layer.

    Args:
        channels: of the features.
        preset: sizes.
    """

    def __init__(self, channels: int, preset: Preset) -> None:
        super().__init__()
        dims = preset.dims
        self.embed = nn.Conv2d(channels, dims[0], 1)
        self.token = nn.Parameter(torch.empty(dims[0], 1, 1))
        self.down = nn.ModuleList(_blocks(*level, preset) for level in zip(dims, preset.depths, strict=True))
        self.halve = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(dims))
        self.widen = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(dims))
        self.merge = nn.ModuleList(nn.Conv2d(2 * dim, dim, 1) for dim in dims[:-1])
        self.up = nn.ModuleList(_blocks(*level, preset) for level in zip(dims[:-1], preset.up_depths, strict=True))
        self.head = nn.Conv2d(dims[0], channels, 1)
        self.apply(init_transformer)
        nn.init.normal_(self.token, std=0.02)

    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """The composite F̂ = Σ (1 − M_i) ⊙ R(M_i ⊙ F), all passes in one batch.

        Args:
            features: (N, channels, 64, 64).
            masks: (n, 64, 64) from `crossed_masks`.

        Returns:
            (N, channels, 64, 64).
        """
        masks = masks.unsqueeze(1)
        embedded = self.embed(features).unsqueeze(1)
        passes = masks * embedded + (1 - masks) * self.token
        restored = self._restore(passes.flatten(0, 1)).view(passes.shape)
        out: Tensor = self.head((restored * (1 - masks)).sum(1))
        return out

    def _restore(self, x: Tensor) -> Tensor:
        """(N·n, dim, 64, 64) → the same."""
        skipped = []
        for blocks, halve in zip(self.down, self.halve, strict=False):
            x = blocks(x)
            skipped.append(x)
            x = halve(x)
        x = self.down[-1](x)
        for level in reversed(range(len(skipped))):
            skip = skipped[level]
            fine = F.interpolate(self.widen[level](x), skip.shape[2:], mode="nearest")
            x = self.up[level](self.merge[level](torch.cat([fine, skip], dim=1)))
        return x


def _blocks(dim: int, depth: int, preset: Preset) -> nn.Sequential:
    return nn.Sequential(*(HybridBlock(dim, preset.head_dim, preset.pools, preset.ffn_ratio) for _ in range(depth)))
