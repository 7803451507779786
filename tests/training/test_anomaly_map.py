"""The map: one matrix against interpolation and filtering, the product of both modes, and the score rules."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from training.networks.anomaly_map import dual_mode_map, reconstruction_loss, score_map, smoothing_matrix


def interpolated_and_filtered(small: torch.Tensor) -> np.ndarray:
    large = F.interpolate(small[None, None].double(), (256, 256), mode="bilinear", align_corners=True)
    return gaussian_filter(large[0, 0].numpy(), sigma=4)


def test_smoothing_matrix_is_interpolation_then_gaussian() -> None:
    small = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    matrix = torch.from_numpy(smoothing_matrix())
    np.testing.assert_allclose((matrix @ small @ matrix.T).numpy(), interpolated_and_filtered(small), atol=4e-7)


def test_map_is_the_product_of_both_smoothed_modes() -> None:
    generator = torch.Generator().manual_seed(1)
    features, reconstruction = torch.randn(2, 1, 5, 64, 64, generator=generator)
    distance = F.mse_loss(reconstruction, features, reduction="none").mean(1)[0]
    direction = 1 - F.cosine_similarity(features, reconstruction, dim=1)[0]
    expected = interpolated_and_filtered(distance) * interpolated_and_filtered(direction)
    anomaly_map = dual_mode_map(features, reconstruction, torch.from_numpy(smoothing_matrix()))
    np.testing.assert_allclose(anomaly_map[0].numpy(), expected, rtol=1e-4)


def test_features_that_are_all_zero_give_a_finite_map() -> None:
    zero = torch.zeros(1, 5, 64, 64)
    assert dual_mode_map(zero, zero + 1, torch.from_numpy(smoothing_matrix())).isfinite().all()


def test_score_rules() -> None:
    maps = torch.rand(3, 256, 256, generator=torch.Generator().manual_seed(2))
    flat = maps.flatten(1).numpy()
    np.testing.assert_allclose(score_map(maps, "std"), flat.std(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(score_map(maps, "max"), flat.max(axis=1))
    np.testing.assert_allclose(score_map(maps, "top1pct"), np.sort(flat)[:, -655:].mean(axis=1), rtol=1e-5)


def test_loss_is_five_times_direction_plus_squared_error() -> None:
    target, prediction = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 2.0]]])
    assert reconstruction_loss(target, prediction).item() == 5 * 1 + (1 + 4) / 2
