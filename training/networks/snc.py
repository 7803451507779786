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


def relation_code(features: Tensor, window: int) -> Tensor:
    """Cosine of each element with each of its neighbours.

    Args:
        features: (N, C, H, W); a vector shorter than 1e-6 counts as if it had that length.
        window: k.

    Returns:
        (N, k²−1, H, W) in −1..1.
    """
    unit = features / features.square().sum(1, keepdim=True).clamp(min=MIN_NORM**2).sqrt()
    return torch.stack([(unit * near).sum(1) for near in neighbours(unit, window)], dim=1)


def log_affinity(relations: Tensor, temperature: float) -> Tensor:
    """Logarithm of the affinity: (N, K, H, W) from `relation_code` → (N, K, H, W)."""
    return (relations / temperature).log_softmax(1)


def context_code(features: Tensor, affinity: Tensor, window: int) -> Tensor:
    """Mean of the neighbours of (N, C, H, W), weighted by their affinity, (N, k²−1, H, W): (N, C, H, W)."""
    weighted = [affinity[:, i : i + 1] * near for i, near in enumerate(neighbours(features, window))]
    return sum(weighted[1:], weighted[0])


def neighbours(features: Tensor, window: int) -> list[Tensor]:
    """Shifted copies, row by row without the unshifted, the border replicated: (N, C, H, W) → k²−1 of that shape."""
    height, width = features.shape[2:]
    radius = window // 2
    wide = torch.cat([*[features[..., :1]] * radius, features, *[features[..., -1:]] * radius], dim=3)
    large = torch.cat([*[wide[:, :, :1]] * radius, wide, *[wide[:, :, -1:]] * radius], dim=2)
    shifts = [(row, column) for row in range(window) for column in range(window) if (row, column) != (radius, radius)]
    return [large[:, :, row : row + height, column : column + width] for row, column in shifts]
