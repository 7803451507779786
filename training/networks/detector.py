"""The whole detector as one module: camera pixels in, anomaly map and score out; trained with and exported as this."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edge.frame import Image
from edge.manifest import Fusion, ScoreRule
from training.networks.anomaly_map import anomaly_map, score_map, smoothing_matrix
from training.networks.backbones import Backbone
from training.networks.features import CellExtractor
from training.networks.tfanet import TFANet


class Detector(nn.Module):
    """Backbone, TFA-Net and map; what is constant at inference is computed once, here.

    The templates' pass through backbone and patch embedding becomes stored tokens.

    Args:
        backbone: frozen, in eval mode.
        network: trained, in eval mode.
        templates: uint8 (T,256,256,3) RGB, T as the network's `templates`.
        score_rule: how the map becomes a score.
        fusion: how the two maps become one.
        ignored: bool (256,256), pixels whose anomaly is zero whatever they show; None for none.
        normalise_template: False as in the authors' release, for comparison.
    """

    template_tokens: Tensor
    smoothing: Tensor
    counted: Tensor

    def __init__(
        self,
        backbone: Backbone,
        network: TFANet,
        templates: Image,
        score_rule: ScoreRule,
        fusion: Fusion,
        ignored: npt.NDArray[np.bool_] | None = None,
        normalise_template: bool = True,
    ) -> None:
        super().__init__()
        self.extractor = CellExtractor(backbone, network.feature_scale)
        self.network = network
        self.score_rule: ScoreRule = score_rule
        self.fusion: Fusion = fusion
        self.has_ignored = ignored is not None
        tokens = torch.empty(0, 256, network.position.shape[1])
        if network.templates:
            with torch.no_grad():
                extractor = CellExtractor(backbone, network.feature_scale, normalise_template)
                tokens = network.embed(extractor(to_nchw(templates)))
        self.register_buffer("template_tokens", tokens)
        self.register_buffer("smoothing", torch.from_numpy(smoothing_matrix()))
        self.register_buffer("counted", torch.ones(1) if ignored is None else torch.from_numpy(~ignored).float())
        self.requires_grad_(False)

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N,256,256,3) RGB → cells and their reconstruction, float32 (N,256,16·C) each."""
        cells = self.extractor(image.float().permute(0, 3, 1, 2))
        template = self.template_tokens if self.network.templates else None
        return cells, self.network.reconstruct(self.network.embed(cells), template)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N,256,256,3) RGB → anomaly map float32 (N,256,256), score float32 (N,)."""
        cells, reconstruction = self.maps(image)
        fused = anomaly_map(cells, reconstruction, self.smoothing, self.fusion)
        if self.has_ignored:
            fused = fused * self.counted
        return fused, score_map(fused, self.score_rule)


def to_nchw(images: Image) -> Tensor:
    """uint8 (N,H,W,3) → float32 (N,3,H,W) in 0..255."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()
