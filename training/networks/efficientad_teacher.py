"""The teacher of EfficientAD: a patch description network that learns to say what a frozen backbone says.

In the paper (Batzner et al., WACV 2024) it learns from ImageNet's images what a wide ResNet-101 says of them. Those
images are not at hand. Decisions of ours, fields of `EfficientAdSettings`: the images are good parts and procedural
ones (`teacher_procedural_share` of them; 1 keeps a teacher free of the product, 0 shows it nothing else;
`teacher_procedural_images`), the backbone is the one of the other detectors (`backbone`), fewer steps
(`teacher_steps`).

As in the paper the target is PatchCore's description: layers 2 and 3 of the image at `teacher_target_px`, averaged
over 3×3, brought to 64×64, concatenated and pooled to 384 channels (ResNet-18's layers have 384), normalised per
channel; squared error; Adam (`teacher_lr`, `teacher_weight_decay`) with batches of 16 (`teacher_batch`).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from edge.errors import TfanetEdgeError
from edge.frame import Image
from training.networks.backbones import Backbone
from training.networks.efficientad_pdn import DESCRIPTION_CHANNELS
from training.networks.efficientad_settings import EfficientAdSettings
from training.networks.fcl_pyramid import Pixels
from training.networks.features import FEATURE_SIZE, channel_statistics
from training.procedural import draw, texture_bank

QUARTER_PX = 128
_STATISTICS_IMAGES = 32
_BANK_SEED = 0


def procedural_images(count: int, seed: int) -> Image:
    """Pictures of nothing in particular, four of `training.procedural` each: uint8 (count, 256, 256, 3)."""
    bank = texture_bank(_BANK_SEED)
    quarters = np.stack([draw(seed * 10_000_000 + index, bank, QUARTER_PX).image for index in range(4 * count)])
    rows: Image = quarters.reshape(count, 2, 2, QUARTER_PX, QUARTER_PX, 3).swapaxes(2, 3)
    return rows.reshape(count, 2 * QUARTER_PX, 2 * QUARTER_PX, 3)


def distil(
    teacher: nn.Sequential, backbone: Backbone, good: Image, procedural: Image, settings: EfficientAdSettings
) -> None:
    """Train a teacher in place, on its device.

    Args:
        teacher: normalised RGB (N, 3, 256, 256) → (N, 384, 64, 64).
        backbone: frozen, in eval mode.
        good: uint8 (N, 256, 256, 3) RGB, good parts to train on.
        procedural: uint8 (M, 256, 256, 3) RGB.
        settings: how.

    Raises:
        TfanetEdgeError: the loss is not finite.
    """
    rng = np.random.default_rng(0)
    device = next(teacher.parameters()).device
    pixels = Pixels().to(device)

    def batch(count: int) -> Tensor:
        of_procedural = rng.binomial(count, settings.teacher_procedural_share)
        chosen = [good[rng.integers(len(good), size=count - of_procedural)]]
        chosen.append(procedural[rng.integers(len(procedural), size=of_procedural)])
        drawn: Tensor = pixels(torch.from_numpy(np.concatenate(chosen)).to(device))
        return drawn

    statistics = channel_statistics(
        patch_descriptions(backbone, batch(1), settings.teacher_target_px) for _ in range(_STATISTICS_IMAGES)
    )
    mean, deviation = (values.float().view(-1, 1, 1) for values in statistics)
    parameters = [*teacher.requires_grad_(True).parameters()]
    optimiser = torch.optim.Adam(parameters, lr=settings.teacher_lr, weight_decay=settings.teacher_weight_decay)
    for _ in tqdm(range(settings.teacher_steps), "teacher", mininterval=5, delay=5, leave=False):
        images = batch(settings.teacher_batch)
        target = (patch_descriptions(backbone, images, settings.teacher_target_px) - mean) / deviation
        loss = F.mse_loss(teacher(images), target)
        if not torch.isfinite(loss):
            raise TfanetEdgeError(f"the teacher's loss became {loss.item()}", "lower teacher_lr")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    teacher.requires_grad_(False)


@torch.no_grad()
def patch_descriptions(backbone: Backbone, pixels: Tensor, size_px: int) -> Tensor:
    """What PatchCore (Roth et al., CVPR 2022) says of each patch.

    Args:
        backbone: frozen, in eval mode.
        pixels: normalised RGB (N, 3, H, W).
        size_px: edge that they are brought to before the backbone sees them.

    Returns:
        (N, 384, 64, 64).
    """
    large = F.interpolate(pixels, (size_px, size_px), mode="bilinear", align_corners=False)
    size = (FEATURE_SIZE, FEATURE_SIZE)
    levels = [
        F.interpolate(F.avg_pool2d(level, 3, 1, 1), size, mode="bilinear", align_corners=False)
        for level in backbone(large)[2:4]
    ]
    by_place = torch.cat(levels, dim=1).flatten(2).transpose(1, 2)
    pooled = F.adaptive_avg_pool1d(by_place, DESCRIPTION_CHANNELS).transpose(1, 2)
    return pooled.reshape(len(pixels), DESCRIPTION_CHANNELS, *size)
