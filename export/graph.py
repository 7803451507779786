"""TFA-Net as the demo exports it: batch normalisation folded, weights rounded where a file may store them so."""

from __future__ import annotations

import torch
from torch import nn

from edge.frame import Image
from edge.manifest import ScoreRule
from training.networks.anomaly_map import Fusion
from training.networks.backbones import Backbone, fold_batch_norm
from training.networks.detector import Detector
from training.networks.tfanet import TFANet
from training.networks.tfanet_detector import FoldedTfaNet, fuse_tfanet


def detector_graph(
    backbone: Backbone, network: TFANet, templates: Image, score_rule: ScoreRule, fusion: Fusion, half_weights: bool
) -> Detector:
    """A detector ready for export, in eval mode. Takes over both networks and changes them in place.

    Args:
        backbone: frozen, in eval mode.
        network: trained, in eval mode.
        templates: uint8 (T,256,256,3) RGB.
        score_rule: how the map becomes a score.
        fusion: how the two maps become one.
        half_weights: round every matrix and kernel to half precision.
    """
    fold_batch_norm(backbone)
    if half_weights:
        round_to_half(backbone)
        round_to_half(network)
    return Detector(FoldedTfaNet(backbone, network, templates), fuse_tfanet, score_rule, fusion).eval()


def round_to_half(module: nn.Module) -> None:
    """Round every parameter of two or more dimensions to the nearest float16, kept as float32, in place."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() >= 2:
                parameter.copy_(parameter.half().float())
