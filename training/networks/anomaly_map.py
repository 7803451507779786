"""From features and their reconstruction to the anomaly map and its score.

Sums instead of means and top-1 instead of maximum: ONNX changed the other reductions after opset 17, the newest that
every supported TensorRT reads.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge.manifest import ScoreRule
from training.networks.features import FEATURE_SIZE, PATCH, TOKENS, unpatchify
from training.networks.loss import COSINE_EPS

Fusion = Literal["product", "sum", "direction", "distance"]
MAP_SIZE_PX = 256
SIGMA_PX = 4.0
TRUNCATE = 4.0
TOP_SHARE = 0.01


def smoothing_matrix() -> npt.NDArray[np.float32]:
    """M (256, 64): bilinear upsampling with aligned corners, then a Gaussian with σ = 4 px, along one axis.

    M·D·Mᵀ smooths a 64×64 map D exactly as interpolating and filtering does (reflected edges, cut at 4 σ).
    """
    place = np.arange(MAP_SIZE_PX) * (FEATURE_SIZE - 1) / (MAP_SIZE_PX - 1)
    left = np.minimum(place.astype(int), FEATURE_SIZE - 2)
    upsample = np.zeros((MAP_SIZE_PX, FEATURE_SIZE))
    upsample[np.arange(MAP_SIZE_PX), left] = 1 - (place - left)
    upsample[np.arange(MAP_SIZE_PX), left + 1] = place - left
    reach = int(TRUNCATE * SIGMA_PX + 0.5)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / SIGMA_PX) ** 2)
    kernel /= kernel.sum()
    blur = np.zeros((MAP_SIZE_PX, MAP_SIZE_PX))
    for offset, weight in zip(offsets, kernel, strict=True):
        source = np.arange(MAP_SIZE_PX) + offset
        source = np.where(source < 0, -source - 1, source)
        source = np.where(source >= MAP_SIZE_PX, 2 * MAP_SIZE_PX - 1 - source, source)
        blur[np.arange(MAP_SIZE_PX), source] += weight
    return (blur @ upsample).astype(np.float32)


def anomaly_map(cells: Tensor, reconstruction: Tensor, smoothing: Tensor, fusion: Fusion) -> Tensor:
    """The map of the differences in direction and in distance, each upsampled and smoothed.

    Args:
        cells, reconstruction: (N, 256, 16·C).
        smoothing: from `smoothing_matrix`.
        fusion: `product` is the paper's A_dir ⊙ A_dis, `direction` A_dir alone; decision 0009 says which when.

    Returns:
        (N, 256, 256), not negative up to rounding.
    """
    return fuse(*differences(cells, reconstruction), smoothing, fusion)


def differences(cells: Tensor, reconstruction: Tensor) -> tuple[Tensor, Tensor]:
    """A_dir = 1 − cosine and A_dis = mean squared difference, over the channels of each position.

    Args:
        cells, reconstruction: (N, 256, 16·C).

    Returns:
        (N, 64, 64) each.
    """
    pixels, rebuilt = (x.reshape(x.shape[0], TOKENS, PATCH**2, -1) for x in (cells, reconstruction))
    distance = (pixels - rebuilt).square().sum(3) / pixels.shape[3]
    norms = pixels.square().sum(3).sqrt() * rebuilt.square().sum(3).sqrt()
    direction = 1 - (pixels * rebuilt).sum(3) / norms.clamp(min=COSINE_EPS)
    return unpatchify(direction)[:, 0], unpatchify(distance)[:, 0]


def fuse(direction: Tensor, distance: Tensor, smoothing: Tensor, fusion: Fusion) -> Tensor:
    """One map of what `differences` returned; arguments and result as for `anomaly_map`."""
    if fusion == "distance":
        return smoothing @ distance @ smoothing.T
    if fusion == "direction":
        return smoothing @ direction @ smoothing.T
    if fusion == "sum":
        return smoothing @ (direction + distance) @ smoothing.T
    distance, direction = (smoothing @ d @ smoothing.T for d in (distance, direction))
    return direction * distance


def score_map(fused: Tensor, rule: ScoreRule) -> Tensor:
    """Image score of each map, (N, 256, 256) → (N,).

    `std` is the rule of the authors' release; `top1pct` is the mean of the largest 1 % of the pixels.
    """
    flat = fused.flatten(1)
    pixels = flat.shape[1]
    if rule == "std":
        centred = flat - flat.sum(1, keepdim=True) / pixels
        return (centred.square().sum(1) / pixels).sqrt()
    count = 1 if rule == "max" else int(TOP_SHARE * pixels)
    return torch.topk(flat, count, dim=1).values.sum(1) / count
