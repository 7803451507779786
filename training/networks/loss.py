"""The loss of TFA-Net with the gradient written out: the vectors are long, so memory traffic is what it costs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

COSINE_EPS = 1e-8


def reconstruction_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """5 · mean(1 − cos) + mean squared error.

    Args:
        prediction: float32 (N, T, D), a vector per token.
        target: the same shape and type; gets no gradient.

    Returns:
        A scalar.
    """
    loss: Tensor = _ReconstructionLoss.apply(prediction, target)  # type: ignore[no-untyped-call]
    return loss


class _ReconstructionLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, prediction: Tensor, target: Tensor) -> Tensor:
        across = _dot(target, prediction)
        target_square, prediction_square = _dot(target, target), _dot(prediction, prediction)
        count, width = across.numel(), target.shape[2]
        norms = (target_square * prediction_square).sqrt().clamp(min=COSINE_EPS)
        cosine = across / norms
        # d/dprediction = on_target · target + on_prediction · prediction, two numbers per token.
        on_target = -5 / count / norms - 2 / count / width
        on_prediction = 5 / count * cosine / prediction_square.clamp(min=COSINE_EPS) + 2 / count / width
        ctx.save_for_backward(prediction, target, on_prediction, on_target)
        squared_error = (target_square + prediction_square - 2 * across) / width
        return 5 * (1 - cosine).mean() + squared_error.mean()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None]:
        prediction, target, on_prediction, on_target = ctx.saved_tensors
        gradient = prediction * (on_prediction * scale)[..., None]
        return gradient.addcmul_(target, (on_target * scale)[..., None]), None


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """(N, T, D) · (N, T, D) → (N, T), without the products in memory that an elementwise form writes."""
    rows = left.flatten(0, 1).unsqueeze(1)
    columns = right.flatten(0, 1).unsqueeze(2)
    return torch.bmm(rows, columns).view(left.shape[:2])
