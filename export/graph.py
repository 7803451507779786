"""The whole detector as one module, the way it is exported: camera pixels in, anomaly map and score out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge.bundle import ScoreRule
from edge.frame import Image
from training.networks.anomaly_map import dual_mode_map, score_map, smoothing_matrix
from training.networks.backbones import Backbone, fold_batch_norm
from training.networks.tfanet import TFANet, extract_features, unpatchify
from training.train import to_nchw


class DetectorGraph(nn.Module):
    """Backbone, TFA-Net and map with everything constant folded.

    The template's backbone pass and patch embedding become stored tokens. Takes over both networks: the batch
    normalisation is folded into the backbone in place.

    Args:
        backbone: frozen, in eval mode.
        network: trained, in eval mode.
        template: uint8 (256,256,3) RGB.
        score_rule: how the map becomes a score.
        half_weights: round every matrix and kernel to half precision, so that a file may store them so.
    """

    template_tokens: Tensor
    smoothing: Tensor

    def __init__(
        self, backbone: Backbone, network: TFANet, template: Image, score_rule: ScoreRule, half_weights: bool
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.network = network
        self.score_rule = score_rule
        fold_batch_norm(self.backbone)
        if half_weights:
            round_to_half(self)
        with torch.no_grad():
            tokens = network.embed(extract_features(backbone, to_nchw(template[None])))
        self.register_buffer("template_tokens", tokens)
        self.register_buffer("smoothing", torch.from_numpy(smoothing_matrix()))
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N,256,256,3) RGB → anomaly map float32 (N,256,256), score float32 (N,)."""
        features = extract_features(self.backbone, image.float().permute(0, 3, 1, 2))
        reconstruction = unpatchify(self.network(features, self.template_tokens))
        anomaly_map = dual_mode_map(features, reconstruction, self.smoothing)
        return anomaly_map, score_map(anomaly_map, self.score_rule)


def round_to_half(module: nn.Module) -> None:
    """Round every parameter of two or more dimensions to the nearest float16, kept as float32, in place."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() >= 2:
                parameter.copy_(parameter.half().float())
