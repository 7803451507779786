"""The map: one matrix against interpolation and filtering, the product of both modes, and the score rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from training.networks.anomaly_map import Fusion, anomaly_map, differences, fuse, score_map, smoothing_matrix
from training.networks.features import patchify
from training.networks.loss import reconstruction_loss


def interpolated_and_filtered(small: torch.Tensor) -> np.ndarray:
    large = F.interpolate(small[None, None].double(), (256, 256), mode="bilinear", align_corners=True)
    return gaussian_filter(large[0, 0].numpy(), sigma=4)


def test_smoothing_matrix_is_interpolation_then_gaussian() -> None:
    small = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    matrix = torch.from_numpy(smoothing_matrix())
    np.testing.assert_allclose((matrix @ small @ matrix.T).numpy(), interpolated_and_filtered(small), atol=4e-7)


@pytest.mark.parametrize("fusion", ["product", "sum", "direction", "distance"])
def test_map_fuses_both_smoothed_modes(fusion: Fusion) -> None:
    generator = torch.Generator().manual_seed(1)
    features, reconstruction = torch.randn(2, 1, 5, 64, 64, generator=generator)
    distance = F.mse_loss(reconstruction, features, reduction="none").mean(1)
    direction = 1 - F.cosine_similarity(features, reconstruction, dim=1)
    by_channel = interpolated_and_filtered(direction[0]), interpolated_and_filtered(distance[0])
    expected = {
        "product": by_channel[0] * by_channel[1],
        "sum": by_channel[0] + by_channel[1],
        "direction": by_channel[0],
        "distance": by_channel[1],
    }[fusion]
    smoothing = torch.from_numpy(smoothing_matrix())
    cells, rebuilt = patchify(features), patchify(reconstruction)
    fused = anomaly_map(cells, rebuilt, smoothing, fusion)
    np.testing.assert_allclose(fused[0].numpy(), expected, rtol=1e-4)
    parts = differences(cells, rebuilt)
    for part, wanted in zip(parts, (direction, distance), strict=True):
        np.testing.assert_allclose(part.numpy(), wanted.numpy(), rtol=1e-4)
    assert torch.equal(fuse(*parts, smoothing, fusion), fused)


def test_features_that_are_all_zero_give_a_finite_map() -> None:
    zero = torch.zeros(1, 256, 16 * 5)
    assert anomaly_map(zero, zero + 1, torch.from_numpy(smoothing_matrix()), "product").isfinite().all()


def test_score_rules() -> None:
    maps = torch.rand(3, 256, 256, generator=torch.Generator().manual_seed(2))
    flat = maps.flatten(1).numpy()
    np.testing.assert_allclose(score_map(maps, "std"), flat.std(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(score_map(maps, "max"), flat.max(axis=1))
    np.testing.assert_allclose(score_map(maps, "top1pct"), np.sort(flat)[:, -655:].mean(axis=1), rtol=1e-5)


def test_loss_is_five_times_direction_plus_squared_error() -> None:
    target, prediction = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 2.0]]])
    assert reconstruction_loss(prediction, target).item() == 5 * 1 + (1 + 4) / 2


def test_loss_has_the_gradient_that_differentiation_finds() -> None:
    generator = torch.Generator().manual_seed(3)
    target = torch.randn(2, 3, 7, generator=generator, dtype=torch.float64)
    prediction = torch.randn(2, 3, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    plain = 5 * (1 - F.cosine_similarity(prediction, target, dim=2)).mean() + F.mse_loss(prediction, target)
    torch.testing.assert_close(reconstruction_loss(prediction, target), plain)
    expected = torch.autograd.grad(3 * plain, prediction)[0]
    given = torch.autograd.grad(3 * reconstruction_loss(prediction, target), prediction)[0]
    torch.testing.assert_close(given, expected)
