"""The whole detector as one module: camera pixels in, anomaly map and score out; evaluated and exported as this."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge.frame import Image
from edge.manifest import ScoreRule
from training.networks.anomaly_map import score_map, smoothing_matrix
from training.networks.trainable import Bool, Fuse, Maps


class Detector(nn.Module):
    """Small maps become one of the input's size, and that a score.

    Args:
        small_maps: what `Trainable.maps` gave.
        fuse: of the same kind.
        score_rule: how the map becomes a score.
        fusion: how the small maps become one.
        ignored: bool (256,256), pixels whose anomaly is zero whatever they show; None for none.
    """

    smoothing: Tensor
    counted: Tensor

    def __init__(
        self, small_maps: nn.Module, fuse: Fuse, score_rule: ScoreRule, fusion: str, ignored: Bool | None = None
    ) -> None:
        super().__init__()
        self.small_maps = small_maps
        self.fuse = fuse
        self.score_rule: ScoreRule = score_rule
        self.fusion = fusion
        self.has_ignored = ignored is not None
        self.register_buffer("smoothing", torch.from_numpy(smoothing_matrix()))
        self.register_buffer("counted", torch.ones(1) if ignored is None else torch.from_numpy(~ignored).float())
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N,256,256,3) RGB → anomaly map float32 (N,256,256), score float32 (N,)."""
        maps: Maps = self.small_maps(image)
        fused = self.fuse(maps, self.smoothing, self.fusion)
        if self.has_ignored:
            fused = fused * self.counted
        return fused, score_map(fused, self.score_rule)


def to_nchw(images: Image) -> Tensor:
    """uint8 (N,H,W,3) → float32 (N,3,H,W) in 0..255."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()
