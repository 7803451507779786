"""Crossed masks: a grid of features cut into cells, every cell hidden by exactly one mask of a set."""

from __future__ import annotations

import torch
from torch import Tensor

from training.networks.features import FEATURE_SIZE


def crossed_masks(cell: int, count: int, generator: torch.Generator, size: int = FEATURE_SIZE) -> Tensor:
    """A set of complementary masks: Σ (1 − M_i) = 1 everywhere.

    The cells in random order are padded to a multiple of `count` and dealt in rows of equal length, one per mask; with
    more masks than cells the last ones hide nothing.

    Args:
        cell: edge of a cell; those at the right and lower border are cut where it does not divide `size`.
        count: how many masks.
        generator: on the CPU; the same state gives the same masks.
        size: edge of the grid.

    Returns:
        float32 (count, size, size), 0 where hidden, 1 elsewhere.
    """
    edge = -(-size // cell)
    cells = edge * edge
    row = -(-cells // count)
    hidden_by = torch.empty(cells, dtype=torch.long)
    hidden_by[torch.randperm(cells, generator=generator)] = torch.arange(cells) // row
    grid = hidden_by.view(edge, edge).repeat_interleave(cell, 0).repeat_interleave(cell, 1)[:size, :size]
    return (grid != torch.arange(count).view(-1, 1, 1)).float()


def draw_cell(largest: int, generator: torch.Generator) -> int:
    """One of the powers of two from 1 to `largest`, a power of two itself, all equally likely."""
    return 1 << int(torch.randint(largest.bit_length(), (), generator=generator))
