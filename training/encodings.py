"""What the frozen part of a detector says of a set of images, computed once where that fits into memory."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from edge.frame import Image
from training.networks.trainable import Trainable

CHUNK = 8


class Encodings:
    """A detector's encodings by image, in half precision.

    Args:
        trainable: on the device where they are wanted; prepared.
        images: uint8 (N,256,256,3) RGB.
        max_bytes: encodings that take more are computed anew each time they are asked for.
    """

    def __init__(self, trainable: Trainable, images: Image, max_bytes: float) -> None:
        self._trainable = trainable
        self._images = images
        self._cached: tuple[Tensor, ...] | None = None
        if not len(images):
            return
        first = self._compute(torch.arange(1))
        if 2 * len(images) * sum(tensor.numel() for tensor in first) > max_bytes:
            return
        cached = tuple(tensor.new_empty((len(images), *tensor.shape[1:])) for tensor in first)
        for start in tqdm(
            range(0, len(images) if first else 0, CHUNK), "features", mininterval=5, delay=5, leave=False
        ):
            indices = torch.arange(start, min(start + CHUNK, len(images)))
            for tensor, computed in zip(cached, self._compute(indices), strict=True):
                tensor[start : start + CHUNK] = computed
        self._cached = cached

    def __len__(self) -> int:
        return len(self._images)

    @property
    def is_cached(self) -> bool:
        """Whether they fitted."""
        return self._cached is not None

    def batch(self, indices: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Encodings, float32 (n, …), rounded to half precision whether cached or not; uint8 images (n,256,256,3)."""
        device = self._trainable.device
        if self._cached is None:
            encoded = self._compute(indices)
        else:
            encoded = tuple(tensor[indices.to(device)] for tensor in self._cached)
        return tuple(tensor.float() for tensor in encoded), self._on_device(indices)

    @torch.no_grad()
    def _compute(self, indices: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.half() for tensor in self._trainable.encode(self._on_device(indices)))

    def _on_device(self, indices: Tensor) -> Tensor:
        return torch.from_numpy(self._images[indices.numpy()]).to(self._trainable.device)
