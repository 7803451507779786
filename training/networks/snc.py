"""Spatial neighbouring coding (SNC): what the neighbourhood of each element of a feature map looks like.

A reconstruction of Li & Hu, IEEE TIM 2024, where the paper's text was not available. SNC has no parameters. With the
unit vectors f̂ = F/‖F‖ and the k×k window around p without p itself, whose elements lie `spacing` apart,

    relation code  r_p[q] = ⟨f̂_p, f̂_q⟩      affinity  π_p = softmax(r_p / τ)      context code  z_p = Σ_q π_p[q]·F_q.

Decisions of ours: the window k (`snc_window` of `FclSettings`), how far apart its elements are (`snc_reach`), the
temperature τ (`snc_temperature`), which codes a detector compares (`snc`), and that the border is replicated. The
neighbours are slices of a widened tensor, so ONNX needs neither an unfolding nor a padding operator.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from training.networks.trainable import Bool

MIN_NORM = 1e-6


def relation_code(features: Tensor, window: int, spacing: int) -> Tensor:
    """Cosine of each element with each of its neighbours.

    Args:
        features: (N, C, H, W); a vector shorter than 1e-6 counts as if it had that length.
        window: k.
        spacing: in elements.

    Returns:
        (N, k²−1, H, W) in −1..1, in the order of `neighbours`.
    """
    unit = features / features.square().sum(1, keepdim=True).clamp(min=MIN_NORM**2).sqrt()
    height, width = features.shape[2:]
    radius = spacing * (window // 2)
    wide = _widened(unit, radius)
    before, opposite = [], []
    shifts = _shifts(window, spacing)
    for row, column in shifts[: len(shifts) // 2]:
        # The relation of p to the one before is that of the one before to p: one product of a larger part serves both.
        left = max(0, column)
        rows, columns = height - row, width + abs(column)
        here = wide[:, :, radius : radius + rows, radius - left : radius - left + columns]
        there = wide[:, :, radius + row :, radius - left + column :][:, :, :rows, :columns]
        cosines = (here * there).sum(1)
        before.append(cosines[:, :height, left : left + width])
        opposite.append(cosines[:, -row : height - row, left - column : left - column + width])
    return torch.stack([*before, *opposite], dim=1)


def context_code(features: Tensor, relations: Tensor, window: int, spacing: int, temperature: float) -> Tensor:
    """Mean of the neighbours of (N, C, H, W), weighted by their affinity: (N, C, H, W).

    Args:
        features: (N, C, H, W).
        relations: their `relation_code` of the same window and spacing, (N, k²−1, H, W).
        window: k.
        spacing: in elements.
        temperature: τ.
    """
    affinity = (relations / temperature).softmax(1)
    weighted = [affinity[:, i : i + 1] * near for i, near in enumerate(neighbours(features, window, spacing))]
    return sum(weighted[1:], weighted[0])


def neighbours(features: Tensor, window: int, spacing: int) -> list[Tensor]:
    """Shifted copies without the unshifted, the border replicated: (N, C, H, W) → k²−1 of that shape.

    First those above, row by row, and to the left, then the opposite ones in the same order.
    """
    height, width = features.shape[2:]
    radius = spacing * (window // 2)
    wide = _widened(features, radius)
    corners = [(radius + row, radius + column) for row, column in _shifts(window, spacing)]
    return [wide[:, :, row : row + height, column : column + width] for row, column in corners]


def inside(height: int, width: int, window: int, spacing: int) -> Bool:
    """Where `neighbours` are not replicated ones: (k²−1, height, width)."""
    rows, columns = np.ogrid[:height, :width]
    return np.stack(
        [
            (rows + row >= 0) & (rows + row < height) & (columns + column >= 0) & (columns + column < width)
            for row, column in _shifts(window, spacing)
        ]
    )


def _shifts(window: int, spacing: int) -> list[tuple[int, int]]:
    """Rows and columns from an element to its neighbours, in their order."""
    steps = [spacing * step for step in range(-(window // 2), window // 2 + 1)]
    before = [(row, column) for row in steps for column in steps if (row, column) < (0, 0)]
    return [*before, *((-row, -column) for row, column in before)]


def _widened(features: Tensor, radius: int) -> Tensor:
    """The border replicated on all sides: (N, C, H, W) → (N, C, H + 2·radius, W + 2·radius)."""
    wide = torch.cat([*[features[..., :1]] * radius, features, *[features[..., -1:]] * radius], dim=3)
    return torch.cat([*[wide[:, :, :1]] * radius, wide, *[wide[:, :, -1:]] * radius], dim=2)
