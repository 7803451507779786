"""Structural similarity of feature maps, channel by channel.

Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, "Image quality assessment", IEEE TIP 13(4), 2004. Windowed sums
are products with a matrix, so that an exported graph treats them as the arithmetic of the map, not as weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.networks.features import FEATURE_SIZE

K1, K2 = 0.01, 0.03


def window_matrix(width: int, sigma: float, size: int = FEATURE_SIZE) -> Tensor:
    """W float32 (size, size): W·X·Wᵀ weighs each neighbourhood of X by a Gaussian; rows sum to 1, edges are reflected.

    Args:
        width: of the window, odd, at most 2 · size.
        sigma: of the Gaussian, in elements.
        size: edge of X.
    """
    offsets = torch.arange(width) - width // 2
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    source = torch.arange(size)[:, None] + offsets
    source = torch.where(source < 0, -1 - source, source)
    source = torch.where(source >= size, 2 * size - 1 - source, source)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.scatter_add_(1, source, (kernel / kernel.sum()).expand(size, -1)).float()


def dissimilarity(x: Tensor, y: Tensor, offset: Tensor, window: Tensor, span: float) -> Tensor:
    """1 − SSIM of x + offset and y + offset, with the deviations of the window's whole population.

    Args:
        x, y: (…, C, H, H).
        offset: (C, 1, 1); brings features that were centred back to where they are not negative.
        window: (H, H), from `window_matrix`.
        span: range of the values, the L of the paper.

    Returns:
        (…, C, H, H) in 0..2 up to rounding.
    """
    mean_x, mean_y = _weigh(x, window), _weigh(y, window)
    # SSIM needs the two variances only as their sum.
    variances = _weigh(x * x + y * y, window) - mean_x * mean_x - mean_y * mean_y
    covariance = _weigh(x * y, window) - mean_x * mean_y
    mean_x, mean_y = mean_x + offset, mean_y + offset
    luminance, structure = (K1 * span) ** 2, (K2 * span) ** 2
    similar = (2 * mean_x * mean_y + luminance) * (2 * covariance + structure)
    return 1 - similar / ((mean_x * mean_x + mean_y * mean_y + luminance) * (variances + structure))


def _weigh(values: Tensor, window: Tensor) -> Tensor:
    return window @ values @ window.T
