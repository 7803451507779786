"""Crossed masks: every place hidden exactly once, cell by cell, whatever the sizes."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from training.networks.mfrnet_masks import crossed_masks, draw_cell

CELLS, COUNTS, SIZES, SEEDS = st.integers(1, 70), st.integers(1, 40), st.integers(1, 64), st.integers(0, 2**32)


@given(cell=CELLS, count=COUNTS, size=SIZES, seed=SEEDS)
def test_every_cell_is_hidden_by_exactly_one_mask(cell: int, count: int, size: int, seed: int) -> None:
    masks = crossed_masks(cell, count, torch.Generator().manual_seed(seed), size)
    assert masks.shape == (count, size, size)
    assert masks.dtype == torch.float32
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert ((1 - masks).sum(0) == 1).all()
    # A whole cell, also one cut at the border, has one fate.
    place = torch.arange(size) // cell * cell
    assert torch.equal(masks, masks[:, place][:, :, place])


@given(cell=CELLS, count=COUNTS, size=SIZES, seed=SEEDS)
def test_masks_hide_equally_many_cells_but_for_the_padding(cell: int, count: int, size: int, seed: int) -> None:
    hidden = 1 - crossed_masks(cell, count, torch.Generator().manual_seed(seed), size)[:, ::cell, ::cell]
    cells = hidden.shape[1] ** 2
    row = (cells + count - 1) // count
    expected = [min(row, max(0, cells - row * index)) for index in range(count)]
    assert hidden.sum((1, 2)).tolist() == expected


@given(cell=st.integers(1, 8), count=st.integers(2, 5), seed=SEEDS)
def test_the_seed_decides_and_nothing_else(cell: int, count: int, seed: int) -> None:
    first, second = (crossed_masks(cell, count, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, crossed_masks(cell, count, torch.Generator().manual_seed(seed + 1)))


def test_every_cell_meets_every_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    met = torch.stack([1 - crossed_masks(8, 3, generator) for _ in range(60)]).mean(0)
    assert (met > 0.1).all()
    assert (met < 0.6).all()


def test_cells_are_drawn_from_the_powers_of_two() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_cell(8, generator) for _ in range(400)]
    assert set(drawn) == {1, 2, 4, 8}
    assert min(map(drawn.count, drawn)) > 70
    assert {draw_cell(1, generator) for _ in range(20)} == {1}
