"""Teach a ResNet-18 generic features on procedural images only: `python -m training.pretrain --out FILE`.

Deep supervision: from each of layers 1–3 a 1×1 convolution predicts, per cell, the texture class, the class of the
shape on top, and the clean cell's colour and contrast. The heads are thrown away. No photograph, no downloaded
weight and no picture of the inspected product takes part.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from edge.errors import TfanetEdgeError
from training.networks.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone, build_backbone
from training.procedural import SHAPES, draw, texture_bank


@dataclass(frozen=True)
class PretrainSettings:
    """Everything that decides the weights."""

    seed: int = 20
    steps: int = 2400
    batch: int = 32
    image_size_px: int = 128
    peak_lr: float = 2e-3
    weight_decay: float = 0.02
    colour_weight: float = 4.0


class ProceduralImages(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Images by index: image, clean uint8 (3,S,S); texture, shape uint8 (S,S)."""

    def __init__(self, settings: PretrainSettings) -> None:
        self.settings = settings
        self.bank = texture_bank(settings.seed)

    def __len__(self) -> int:
        return self.settings.steps * self.settings.batch

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        sample = draw(self.settings.seed * 10_000_000 + index, self.bank, self.settings.image_size_px)
        image, clean = (
            torch.from_numpy(np.ascontiguousarray(a.transpose(2, 0, 1))) for a in (sample.image, sample.clean)
        )
        return image, clean, torch.from_numpy(sample.texture), torch.from_numpy(sample.shape)


class DenseHeads(nn.Module):
    """One 1×1 convolution per supervised layer, to texture and shape logits, colour and contrast.

    Args:
        textures: how many classes.
        channels: of the supervised layers.
    """

    def __init__(self, textures: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.textures = textures
        outputs = textures + len(SHAPES) + 4
        self.heads = nn.ModuleList([nn.Conv2d(layer, outputs, 1) for layer in channels])

    def forward(self, levels: list[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Per layer: texture logits, shape logits, colour and contrast; each (N, ·, h, w)."""
        split = (self.textures, len(SHAPES), 4)
        return [head(level).split(split, dim=1) for head, level in zip(self.heads, levels, strict=True)]


def cell_targets(clean: Tensor, texture: Tensor, shape: Tensor, cell_px: int) -> tuple[Tensor, Tensor, Tensor]:
    """Labels of each cell's centre, (N,h,w); mean colour and 4 × its standard deviation, (N,4,h,w)."""
    middle = cell_px // 2
    mean = F.avg_pool2d(clean, cell_px)
    variance = F.avg_pool2d(clean**2, cell_px) - mean**2
    contrast = 4 * variance.mean(1, keepdim=True).clamp(min=0).add(1e-6).sqrt()
    texture_label, shape_label = (label[:, middle::cell_px, middle::cell_px].long() for label in (texture, shape))
    return texture_label, shape_label, torch.cat([mean, contrast], 1)


def normalise(image: Tensor) -> Tensor:
    """uint8 (N,3,H,W) → float32 with ImageNet mean and deviation."""
    mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
    return (image.float() / 255 - mean) / std


def pretrain(settings: PretrainSettings, workers: int = 1) -> Backbone:
    """Train a backbone from scratch.

    Args:
        settings: what decides the weights.
        workers: processes that draw images beside the training; 0 draws in this one, with the same result.

    Raises:
        TfanetEdgeError: the loss is not finite.
    """
    torch.manual_seed(settings.seed)
    images = ProceduralImages(settings)
    backbone = build_backbone("resnet18").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    heads = DenseHeads(len(images.bank), backbone.tap_channels[1:])
    parameters = [*backbone.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=settings.peak_lr, weight_decay=settings.weight_decay)
    warmup = max(1, settings.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * step / settings.steps)),
    )
    loader = DataLoader(images, settings.batch, num_workers=workers, prefetch_factor=4 if workers else None)
    with tqdm(loader, desc="pretrain", unit="batch", mininterval=10) as progress:
        for image, clean, texture, shape in progress:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                levels = backbone(normalise(image).contiguous(memory_format=torch.channels_last))[1:]
                predictions = heads(list(levels))
            loss = torch.zeros(())
            for cell_px, (texture_logits, shape_logits, colour) in zip((4, 8, 16), predictions, strict=True):
                texture_label, shape_label, colour_target = cell_targets(clean.float() / 255, texture, shape, cell_px)
                loss = loss + F.cross_entropy(texture_logits.float(), texture_label)
                loss = loss + F.cross_entropy(shape_logits.float(), shape_label)
                loss = loss + settings.colour_weight * F.smooth_l1_loss(colour.float(), colour_target, beta=0.1)
            if not torch.isfinite(loss):
                raise TfanetEdgeError(f"the pre-training loss became {loss.item()}", "lower the learning rate")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    trained: Backbone = backbone.to(memory_format=torch.contiguous_format).eval()
    return trained


def main() -> None:
    """Command line."""
    default = PretrainSettings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="state dict to write")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--steps", type=int, default=default.steps, help="batches of 32 images")
    arguments = parser.parse_args()
    backbone = pretrain(PretrainSettings(seed=arguments.seed, steps=arguments.steps))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(backbone.state_dict(), arguments.out)


if __name__ == "__main__":
    main()
