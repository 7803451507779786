"""From features and their reconstruction to the anomaly map and its score.

Sums instead of means and top-1 instead of maximum: ONNX changed the other reductions after opset 17, the newest that
every supported TensorRT reads.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge.bundle import ScoreRule

FEATURE_SIZE = 64
MAP_SIZE_PX = 256
SIGMA_PX = 4.0
TRUNCATE = 4.0
COSINE_EPS = 1e-8
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


def dual_mode_map(features: Tensor, reconstruction: Tensor, smoothing: Tensor) -> Tensor:
    """A = A_dir ⊙ A_dis after upsampling and smoothing each.

    Args:
        features, reconstruction: (N, C, 64, 64).
        smoothing: from `smoothing_matrix`.

    Returns:
        (N, 256, 256), not negative up to rounding.
    """
    distance = ((features - reconstruction) ** 2).sum(1) / features.shape[1]
    norms = features.square().sum(1).sqrt() * reconstruction.square().sum(1).sqrt()
    direction = 1 - (features * reconstruction).sum(1) / norms.clamp(min=COSINE_EPS)
    distance, direction = (smoothing @ d @ smoothing.T for d in (distance, direction))
    return direction * distance


def score_map(anomaly_map: Tensor, rule: ScoreRule) -> Tensor:
    """Image score of each map, (N, 256, 256) → (N,).

    `std` is the rule of the authors' release; `top1pct` is the mean of the largest 1 % of the pixels.
    """
    flat = anomaly_map.flatten(1)
    pixels = flat.shape[1]
    if rule == "std":
        centred = flat - flat.sum(1, keepdim=True) / pixels
        return (centred.square().sum(1) / pixels).sqrt()
    count = 1 if rule == "max" else int(TOP_SHARE * pixels)
    return torch.topk(flat, count, dim=1).values.sum(1) / count


def reconstruction_loss(target: Tensor, prediction: Tensor) -> Tensor:
    """5 · mean(1 − cos) + mean squared error over token vectors (N, T, D); a scalar.

    Both terms come from the same three inner products, which saves most of the memory traffic.
    """
    product = torch.linalg.vecdot(target, prediction)
    target_square, prediction_square = (torch.linalg.vecdot(x, x) for x in (target, prediction))
    cosine = product / (target_square * prediction_square).sqrt().clamp(min=COSINE_EPS)
    squared_error = (target_square + prediction_square - 2 * product) / target.shape[2]
    loss: Tensor = 5 * (1 - cosine).mean() + squared_error.mean()
    return loss
