"""Train TFA-Net on images of good parts.

The backbone is frozen, so its features are computed once and kept in half precision. The last epoch is the result:
nothing is selected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from edge.errors import ConfigError, TfanetEdgeError
from edge.frame import Image
from training.networks.anomaly_map import reconstruction_loss
from training.networks.backbones import ResNet18
from training.networks.tfanet import PRESETS, TFANet, draw_kept_tokens, extract_features, patchify


@dataclass(frozen=True)
class TrainSettings:
    """How to train; the values are the paper's unless said otherwise.

    Attributes:
        preset: one of PRESETS.
        seed: of initialisation, order and masking.
        epochs: passes over the images.
        batch: images per step.
        lr: AdamW's rate; the paper's is 1e-4.
        decay_share: the rate falls linearly to zero over this last share of the steps; the paper's is 0, constant.
        mask_range: each batch drops a share of its input tokens drawn from this range.
        mixed_precision: bfloat16 in the transformer, float32 in loss and weights.
    """

    preset: str = "tiny"
    seed: int = 0
    epochs: int = 20
    batch: int = 4
    lr: float = 1e-4
    decay_share: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    mask_range: tuple[float, float] = (0.0, 0.75)
    mixed_precision: bool = True


def to_nchw(images: Image) -> Tensor:
    """uint8 (N,H,W,3) → float32 (N,3,H,W) in 0..255."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()


@torch.inference_mode()
def cache_features(backbone: ResNet18, images: Image) -> Tensor:
    """Features of all images, float16 (N, C, 64, 64): 4 MiB per image with ResNet-18."""
    channels = sum(backbone.tap_channels)
    cached = torch.empty(len(images), channels, 64, 64, dtype=torch.float16)
    for start in tqdm(range(0, len(images), 16), "features", mininterval=5, leave=False):
        cached[start : start + 16] = extract_features(backbone, to_nchw(images[start : start + 16])).half()
    return cached


def train(
    backbone: ResNet18, images: Image, settings: TrainSettings, checkpoint: Path, start: TFANet | None = None
) -> TFANet:
    """Fit the transformer to good parts.

    Args:
        backbone: frozen, in eval mode.
        images: uint8 (N,256,256,3) RGB, good parts only; the first is the template.
        settings: how.
        checkpoint: written after every epoch.
        start: weights to begin with, changed in place; fresh ones when None.

    Returns:
        The network after the last epoch, in eval mode.

    Raises:
        TfanetEdgeError: the loss is not finite.
    """
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    features = cache_features(backbone, images)
    template = features[:1].float()
    network = start if start is not None else TFANet(features.shape[1], PRESETS[settings.preset])
    network.train()
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
    )
    steps = settings.epochs * math.ceil(len(features) / settings.batch)
    decay_steps = max(1.0, settings.decay_share * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, (steps - step) / decay_steps))
    low, high = settings.mask_range
    for epoch in range(settings.epochs):
        order = torch.randperm(len(features), generator=generator)
        batches = [order[start : start + settings.batch] for start in range(0, len(order), settings.batch)]
        losses = []
        with tqdm(batches, f"epoch {epoch + 1}/{settings.epochs}", unit="batch", mininterval=10) as progress:
            for chosen in progress:
                ratio = low + (high - low) * float(torch.rand((), generator=generator))
                kept = draw_kept_tokens(ratio, generator)
                loss = _step(network, optimiser, features[chosen].float(), template, kept, settings.mixed_precision)
                schedule.step()
                losses.append(loss)
                progress.set_postfix(loss=f"{np.mean(losses):.4f}", refresh=False)
        save_network(network, checkpoint)
    return network.eval()


def _step(
    network: TFANet,
    optimiser: torch.optim.Optimizer,
    features: Tensor,
    template: Tensor,
    kept: Tensor,
    mixed_precision: bool,
) -> float:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed_precision):
        prediction = network(features, network.embed(template), kept)
    loss = reconstruction_loss(patchify(features), prediction.float())
    value = loss.item()
    if not np.isfinite(value):
        raise TfanetEdgeError(f"the training loss became {value}", "lower the learning rate or look for broken images")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return value


def save_network(network: TFANet, path: Path) -> None:
    """Write the weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)


def load_network(path: Path, channels: int, preset: str) -> TFANet:
    """Read weights written by `save_network`; in eval mode.

    Raises:
        ConfigError: the file holds another network.
    """
    network = TFANet(channels, PRESETS[preset])
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise ConfigError(f"'{path}' is not a {preset} network ({error})", "train it again") from error
    return network.eval()
