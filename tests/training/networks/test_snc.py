"""SNC against a slow reference that follows the definition element by element, and what holds of every feature map."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.networks.snc import context_code, log_affinity, relation_code

SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
SEEDS = st.integers(0, 1000)


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def codes(features: Tensor, window: int, temperature: float) -> tuple[Tensor, Tensor]:
    logarithm = log_affinity(relation_code(features, window), temperature)
    return logarithm, context_code(features, logarithm.exp(), window)


def reference(features: np.ndarray, window: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Affinity and context of (C, H, W), one element after the other."""
    channels, height, width = features.shape
    reach = window // 2
    affinity, context = np.zeros((window**2 - 1, height, width)), np.zeros((channels, height, width))
    for y in range(height):
        for x in range(width):
            here = features[:, y, x]
            there = [
                features[:, min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)]
                for dy in range(-reach, reach + 1)
                for dx in range(-reach, reach + 1)
                if (dy, dx) != (0, 0)
            ]
            cosines = [float(here @ other) / math.sqrt(float(here @ here) * float(other @ other)) for other in there]
            weights = [math.exp((cosine - max(cosines)) / temperature) for cosine in cosines]
            affinity[:, y, x] = np.array(weights) / sum(weights)
            context[:, y, x] = sum(w * other for w, other in zip(affinity[:, y, x], there, strict=True))
    return affinity, context


@settings(max_examples=40)
@given(shape=SHAPES, window=st.sampled_from([3, 5]), temperature=st.sampled_from([0.05, 0.1, 1.0]), seed=SEEDS)
def test_codes_are_what_the_definition_says(shape: tuple[int, ...], window: int, temperature: float, seed: int) -> None:
    features = drawn(shape, seed)
    logarithm, context = codes(features, window, temperature)
    for image, given_affinity, given_context in zip(features, logarithm.exp(), context, strict=True):
        affinity, expected = reference(image.numpy(), window, temperature)
        np.testing.assert_allclose(given_affinity.numpy(), affinity, atol=1e-9)
        np.testing.assert_allclose(given_context.numpy(), expected, atol=1e-9)


@settings(max_examples=20)
@given(shape=SHAPES, seed=SEEDS)
def test_a_mirrored_map_has_mirrored_codes(shape: tuple[int, ...], seed: int) -> None:
    features = drawn(shape, seed)
    logarithm, context = codes(features, 3, 0.1)
    # Turned by half a circle, the neighbours come in the reverse order.
    turned, turned_context = codes(features.flip(2, 3), 3, 0.1)
    torch.testing.assert_close(turned.flip(1, 2, 3), logarithm)
    torch.testing.assert_close(turned_context.flip(2, 3), context)


@settings(max_examples=20)
@given(shape=SHAPES, seed=SEEDS)
def test_relations_do_not_notice_how_long_vectors_are(shape: tuple[int, ...], seed: int) -> None:
    features = drawn(shape, seed)
    scaled = features * drawn((shape[0], 1, *shape[2:]), seed + 1).abs().clamp(min=0.01)
    first, second = (relation_code(x, 3) for x in (features, scaled))
    torch.testing.assert_close(first, second)
    assert first.abs().max() <= 1 + 1e-9


def test_of_a_uniform_map_every_neighbour_counts_alike_and_the_context_is_the_map() -> None:
    features = torch.randn(2, 5, 1, 1).expand(-1, -1, 6, 7)
    logarithm, context = codes(features, 3, 0.1)
    torch.testing.assert_close(logarithm.exp(), torch.full_like(logarithm, 1 / 8))
    torch.testing.assert_close(context, features)


def test_the_nearest_in_direction_counts_most() -> None:
    features = torch.zeros(1, 2, 3, 3)
    features[:, 0] = 1
    features[0, :, 0, 2] = torch.tensor([0.0, 1.0])
    features[0, :, 1, 1] = torch.tensor([0.0, 2.0])
    logarithm, context = codes(features, 3, 0.1)
    assert int(logarithm[0, :, 1, 1].argmax()) == 2
    torch.testing.assert_close(context[0, :, 1, 1], torch.tensor([0.0, 1.0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e4])
def test_vectors_of_no_length_and_of_great_length_have_finite_codes_and_gradients(value: float) -> None:
    features = torch.full((1, 64, 4, 4), value, requires_grad=True)
    logarithm, context = codes(features, 3, 0.1)
    (logarithm[:, :3].sum() + context.sum()).backward()
    assert logarithm.isfinite().all()
    assert features.grad is not None
    assert features.grad.isfinite().all()
