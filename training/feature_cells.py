"""The frozen backbone's features of a set of images, computed once where they fit into memory."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from edge.frame import Image
from training.networks.detector import to_nchw
from training.networks.features import PATCH, TOKENS, CellExtractor

CHUNK = 8


class FeatureCells:
    """Cells of `patchify` by image, in half precision.

    Args:
        extractor: on the device where the cells are wanted.
        images: uint8 (N,256,256,3) RGB.
        max_bytes: features that take more are computed anew each time they are asked for.
    """

    def __init__(self, extractor: CellExtractor, images: Image, max_bytes: float) -> None:
        self._extractor = extractor
        self._images = images
        self._device = extractor.scale.device
        self._cached: Tensor | None = None
        width = PATCH**2 * extractor.scale.numel()
        if 2 * len(images) * width * TOKENS <= max_bytes:
            self._cached = torch.empty(len(images), TOKENS, width, dtype=torch.float16, device=self._device)
            for start in tqdm(range(0, len(images), CHUNK), "features", mininterval=5, delay=5, leave=False):
                indices = torch.arange(start, min(start + CHUNK, len(images)))
                self._cached[start : start + CHUNK] = self._compute(indices)

    def __len__(self) -> int:
        return len(self._images)

    @property
    def is_cached(self) -> bool:
        """Whether they fitted."""
        return self._cached is not None

    def cells(self, indices: Tensor) -> Tensor:
        """float32 (n, 256, 16·C), rounded to half precision whether cached or not."""
        if self._cached is not None:
            return self._cached[indices.to(self._device)].float()
        return self._compute(indices).float()

    @torch.no_grad()
    def _compute(self, indices: Tensor) -> Tensor:
        image = to_nchw(self._images[indices.numpy()]).to(self._device)
        cells: Tensor = self._extractor(image)
        return cells.half()
