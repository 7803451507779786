"""SSIM against its definition, position by position, and what it says of simple changes."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.networks.mfrnet_similarity import dissimilarity, window_matrix

SIZE = 9


def slow_ssim(x: np.ndarray, y: np.ndarray, width: int, sigma: float, span: float) -> np.ndarray:
    """Two maps (H, H); edges continue as in a mirror that stands behind the last pixel."""
    radius, size = width // 2, x.shape[0]
    padded = [np.pad(values, radius, mode="symmetric") for values in (x, y)]
    weights = np.array(
        [
            [math.exp(-(i * i + j * j) / (2 * sigma**2)) for j in range(-radius, radius + 1)]
            for i in range(-radius, radius + 1)
        ]
    )
    weights /= weights.sum()
    result = np.empty_like(x)
    for row in range(size):
        for column in range(size):
            a, b = (values[row : row + width, column : column + width] for values in padded)
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            variance_a = (weights * (a - mean_a) ** 2).sum()
            variance_b = (weights * (b - mean_b) ** 2).sum()
            covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
            luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
            result[row, column] = luminance * (2 * covariance + c2) / (variance_a + variance_b + c2)
    return result


@given(seed=st.integers(0, 10**6), width=st.sampled_from([3, 7, 11]), span=st.floats(0.5, 8), shift=st.floats(0, 5))
def test_dissimilarity_is_one_minus_ssim_by_its_definition(seed: int, width: int, span: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1, 1, SIZE, SIZE))
    y = 0.6 * x + 0.5 * rng.normal(size=x.shape)
    window = window_matrix(width, 1.5, SIZE).double()
    given_map = dissimilarity(torch.from_numpy(x), torch.from_numpy(y), torch.tensor(shift), window, span)
    expected = 1 - slow_ssim(x[0, 0] + shift, y[0, 0] + shift, width, 1.5, span)
    np.testing.assert_allclose(given_map[0, 0].numpy(), expected, atol=1e-5)


def test_channels_and_images_do_not_mix() -> None:
    x, y = torch.randn(2, 2, 3, 64, 64)
    offset, window = torch.rand(3, 1, 1), window_matrix(11, 1.5)
    whole = dissimilarity(x, y, offset, window, 6)
    for image in range(2):
        for channel in range(3):
            alone = dissimilarity(x[image, channel], y[image, channel], offset[channel], window, 6)
            torch.testing.assert_close(whole[image, channel], alone, atol=1e-5, rtol=1e-4)


def test_equal_maps_are_not_dissimilar_and_a_change_is_local() -> None:
    x = torch.rand(1, 1, 64, 64)
    window, offset = window_matrix(11, 1.5), torch.zeros(1, 1, 1)
    assert dissimilarity(x, x, offset, window, 6).abs().max() < 1e-5
    y = x.clone()
    y[..., 30:34, 30:34] += 2
    changed = dissimilarity(x, y, offset, window, 6)[0, 0]
    assert changed[30:34, 30:34].min() > 0.3
    changed[25:39, 25:39] = 0
    assert changed.abs().max() < 1e-5
