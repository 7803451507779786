"""Spatial neighbouring coding (SNC): what the neighbourhood of each element of a feature map looks like.

A reconstruction of Li & Hu, IEEE TIM 2024, where the paper's text was not available. SNC has no parameters. With the
unit vectors f̂ = F/‖F‖ and the k×k window around p without p itself,

    relation code  r_p[q] = ⟨f̂_p, f̂_q⟩      affinity  π_p = softmax(r_p / τ)      context code  z_p = Σ_q π_p[q]·F_q.

Decisions of ours: the window k (`snc_window` of `FclSettings`), the temperature τ (`snc_temperature`), which codes a
detector compares (`snc`), and that the border is replicated. The neighbours are slices of a widened tensor, so ONNX
needs neither an unfolding nor a padding operator.
"""

from __future__ import annotations

import torch
from torch import Tensor

MIN_NORM = 1e-6


def relation_code(features: Tensor, around: Tensor) -> Tensor:
    """Cosine of each element with each of its neighbours.

    Args:
        features: (N, C, H, W); a vector shorter than 1e-6 counts as if it had that length.
        around: its `neighbours`, (N, K, C, H, W).

    Returns:
        (N, K, H, W) in −1..1.
    """
    product = (features.unsqueeze(1) * around).sum(2)
    return product / (_norm(features, 1).unsqueeze(1) * _norm(around, 2))


def log_affinity(relations: Tensor, temperature: float) -> Tensor:
    """Logarithm of the affinity: (N, K, H, W) from `relation_code` → (N, K, H, W)."""
    return (relations / temperature).log_softmax(1)


def context_code(around: Tensor, affinity: Tensor) -> Tensor:
    """Mean of the neighbours, (N, K, C, H, W), weighted by their affinity, (N, K, H, W): (N, C, H, W)."""
    return (affinity.unsqueeze(2) * around).sum(1)


def neighbours(features: Tensor, window: int) -> Tensor:
    """Shifted copies, row by row without the unshifted, the border replicated: (N, C, H, W) → (N, k²−1, C, H, W)."""
    n, c, height, width = features.shape
    radius = window // 2
    wide = torch.cat([*[features[..., :1]] * radius, features, *[features[..., -1:]] * radius], dim=3)
    large = torch.cat([*[wide[:, :, :1]] * radius, wide, *[wide[:, :, -1:]] * radius], dim=2)
    columns = torch.cat([large[..., column : column + width] for column in range(window)], dim=1)
    rows = [columns[:, :, row : row + height] for row in range(window)]
    middle = rows[radius]
    rows[radius : radius + 1] = [middle[:, : radius * c], middle[:, (radius + 1) * c :]]
    return torch.cat(rows, dim=1).reshape(n, window**2 - 1, c, height, width)


def _norm(vectors: Tensor, dim: int) -> Tensor:
    return vectors.square().sum(dim).clamp(min=MIN_NORM**2).sqrt()
