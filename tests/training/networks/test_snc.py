"""SNC against a slow reference that follows the definition element by element, and what holds of every feature map."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.networks.snc import context_code, inside, neighbours, relation_code

SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
SEEDS = st.integers(0, 1000)


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def codes(features: Tensor, window: int, spacing: int, temperature: float) -> tuple[Tensor, Tensor]:
    relations = relation_code(features, window, spacing)
    return relations, context_code(features, relations, window, spacing, temperature)


def order(window: int) -> list[tuple[int, int]]:
    """Of the neighbours, (row, column): row by row up to the centre, then each one's opposite."""
    steps = range(-(window // 2), window // 2 + 1)
    rows = [(row, column) for row in steps for column in steps]
    before = rows[: len(rows) // 2]
    return [*before, *((-row, -column) for row, column in before)]


def reference(features: np.ndarray, window: int, spacing: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Relations and context of (C, H, W), one element after the other."""
    channels, height, width = features.shape
    relations, context = np.zeros((window**2 - 1, height, width)), np.zeros((channels, height, width))
    for y in range(height):
        for x in range(width):
            here = features[:, y, x]
            there = [
                features[:, min(max(y + spacing * dy, 0), height - 1), min(max(x + spacing * dx, 0), width - 1)]
                for dy, dx in order(window)
            ]
            cosines = [float(here @ other) / math.sqrt(float(here @ here) * float(other @ other)) for other in there]
            weights = [math.exp((cosine - max(cosines)) / temperature) for cosine in cosines]
            relations[:, y, x] = cosines
            context[:, y, x] = sum(w / sum(weights) * other for w, other in zip(weights, there, strict=True))
    return relations, context


@settings(max_examples=40)
@given(
    shape=SHAPES,
    window=st.sampled_from([3, 5]),
    spacing=st.integers(1, 4),
    temperature=st.sampled_from([0.05, 0.1, 1.0]),
    seed=SEEDS,
)
def test_codes_are_what_the_definition_says(
    shape: tuple[int, ...], window: int, spacing: int, temperature: float, seed: int
) -> None:
    features = drawn(shape, seed)
    for image, *found in zip(features, *codes(features, window, spacing, temperature), strict=True):
        for given_code, expected in zip(found, reference(image.numpy(), window, spacing, temperature), strict=True):
            np.testing.assert_allclose(given_code.numpy(), expected, atol=1e-9)


@settings(max_examples=20)
@given(shape=SHAPES, spacing=st.integers(1, 3), seed=SEEDS)
def test_turned_by_half_a_circle_opposite_neighbours_change_places(
    shape: tuple[int, ...], spacing: int, seed: int
) -> None:
    features = drawn(shape, seed)
    relations, context = codes(features, 3, spacing, 0.1)
    turned, turned_context = codes(features.flip(2, 3), 3, spacing, 0.1)
    torch.testing.assert_close(turned.roll(4, 1).flip(2, 3), relations)
    torch.testing.assert_close(turned_context.flip(2, 3), context)


@settings(max_examples=20)
@given(shape=SHAPES, seed=SEEDS)
def test_relations_do_not_notice_how_long_vectors_are(shape: tuple[int, ...], seed: int) -> None:
    features = drawn(shape, seed)
    scaled = features * drawn((shape[0], 1, *shape[2:]), seed + 1).abs().clamp(min=0.01)
    first, second = (relation_code(x, 3, 1) for x in (features, scaled))
    torch.testing.assert_close(first, second)
    assert first.abs().max() <= 1 + 1e-9


def test_of_a_uniform_map_every_neighbour_counts_alike_and_the_context_is_the_map() -> None:
    features = torch.randn(2, 5, 1, 1).expand(-1, -1, 6, 7)
    relations, context = codes(features, 3, 2, 0.1)
    torch.testing.assert_close(relations, torch.ones_like(relations))
    torch.testing.assert_close(context, features)


def test_the_nearest_in_direction_counts_most() -> None:
    features = torch.zeros(1, 2, 3, 3)
    features[:, 0] = 1
    features[0, :, 0, 2] = torch.tensor([0.0, 1.0])
    features[0, :, 1, 1] = torch.tensor([0.0, 2.0])
    relations, context = codes(features, 3, 1, 0.1)
    assert order(3)[int(relations[0, :, 1, 1].argmax())] == (-1, 1)
    torch.testing.assert_close(context[0, :, 1, 1], torch.tensor([0.0, 1.0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e4])
def test_vectors_of_no_length_and_of_great_length_have_finite_codes_and_gradients(value: float) -> None:
    features = torch.full((1, 64, 4, 4), value, requires_grad=True)
    relations, context = codes(features, 3, 1, 0.1)
    (relations[:, :3].sum() + context.sum()).backward()
    assert relations.isfinite().all()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_neighbours_are_as_far_apart_as_they_are_told_to_be() -> None:
    features = torch.arange(81.0).view(1, 1, 9, 9)
    for spacing in (1, 2, 4):
        at_centre = neighbours(features, 3, spacing)[0, :, 4, 4, 0].int().tolist()
        assert at_centre == [9 * (4 + spacing * row) + 4 + spacing * column for row, column in order(3)]


@settings(max_examples=40)
@given(height=st.integers(1, 9), width=st.integers(1, 9), window=st.sampled_from([3, 5]), spacing=st.integers(1, 4))
def test_neighbours_that_are_not_inside_are_replicated_ones(height: int, width: int, window: int, spacing: int) -> None:
    found = inside(height, width, window, spacing)
    for there, (row, column) in zip(found, order(window), strict=True):
        for y in range(height):
            for x in range(width):
                is_inside = 0 <= y + spacing * row < height and 0 <= x + spacing * column < width
                assert bool(there[y, x]) == is_inside
