"""Spatial neighbouring coding (SNC): what the neighbourhood of each element of a feature map looks like.

A reconstruction of Li & Hu, IEEE TIM 2024, where the paper's text was not available. SNC has no parameters. With the
unit vectors f̂ = F/‖F‖ and the k×k window around p without p itself, whose elements lie `spacing` apart,

    relation code  r_p[q] = ⟨f̂_p, f̂_q⟩      affinity  π_p = softmax(r_p / τ)      context code  z_p = Σ_q π_p[q]·F_q.

Decisions of ours: the window k (`snc_window` of `FclSettings`), how far apart its elements are (`snc_reach`), the
temperature τ (`snc_temperature`), which codes a detector compares (`snc`), and that the border is replicated. All
neighbours of a level are gathered at once, so ONNX needs one operator for them, neither an unfolding nor a padding.
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
    return (unit.permute(0, 2, 3, 1).unsqueeze(1) * neighbours(unit, window, spacing)).sum(4)


def context_code(features: Tensor, relations: Tensor, window: int, spacing: int, temperature: float) -> Tensor:
    """Mean of the neighbours of (N, C, H, W), weighted by their affinity: (N, C, H, W).

    Args:
        features: (N, C, H, W).
        relations: their `relation_code` of the same window and spacing, (N, k²−1, H, W).
        window: k.
        spacing: in elements.
        temperature: τ.
    """
    affinity = (relations / temperature).softmax(1).unsqueeze(4)
    return (affinity * neighbours(features, window, spacing)).sum(1).permute(0, 3, 1, 2)


def neighbours(features: Tensor, window: int, spacing: int) -> Tensor:
    """Of each element, the border replicated: (N, C, H, W) → (N, k²−1, H, W, C).

    First those above, row by row, and to the left, then the opposite ones in the same order.
    """
    height, width = features.shape[2:]
    rows, columns = np.ogrid[:height, :width]
    places = [
        (rows + row).clip(0, height - 1) * width + (columns + column).clip(0, width - 1)
        for row, column in _shifts(window, spacing)
    ]
    # Vectors lie in one piece: that is copied faster than their channels one by one.
    elements = features.permute(0, 2, 3, 1).flatten(1, 2)
    chosen = torch.from_numpy(np.stack(places).astype(np.int32).ravel()).to(features.device)
    near = elements.index_select(1, chosen)
    return near.reshape(-1, len(places), height, width, features.shape[1])


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
