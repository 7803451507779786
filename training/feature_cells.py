"""The frozen backbone's features of a set of images, computed once where they fit into memory."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from edge.frame import Image
from training.networks.backbones import Backbone
from training.networks.detector import to_nchw
from training.networks.features import FEATURE_SIZE, PATCH, TOKENS, extract_features, patchify

CHUNK = 8


class FeatureCells:
    """Cells of `patchify` by image, in half precision.

    Args:
        backbone: frozen, in eval mode, on `device`.
        images: uint8 (N,256,256,3) RGB.
        device: where the backbone is and the cells are wanted.
        max_bytes: features that take more are computed anew each time they are asked for.
        normalise: see `extract_features`.
    """

    def __init__(
        self, backbone: Backbone, images: Image, device: torch.device, max_bytes: float, normalise: bool = True
    ) -> None:
        self._backbone = backbone
        self._images = images
        self._device = device
        self._normalise = normalise
        self._cached: Tensor | None = None
        width = PATCH**2 * sum(backbone.tap_channels)
        if 2 * len(images) * width * TOKENS <= max_bytes:
            self._cached = torch.empty(len(images), TOKENS, width, dtype=torch.float16, device=device)
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
        features = extract_features(self._backbone, image, self._normalise)
        assert features.shape[2] == FEATURE_SIZE
        return patchify(features).half()
