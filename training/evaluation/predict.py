"""What a run's detector says about labelled images: one pass of the network, then any fusion and score rule cheaply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from edge.errors import TfanetEdgeError
from edge.frame import Image
from edge.manifest import ScoreRule
from training.data.images import read_ignore_mask
from training.data.labelled import LabelledPart, read_labelled
from training.data.layouts import find_layout, labelled_images
from training.data.settings import DataSettings
from training.networks.anomaly_map import score_map, smoothing_matrix
from training.networks.trainable import Fuse
from training.run import Run

Float = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
BATCH = 8


@dataclass(frozen=True, eq=False)
class LabelledParts:
    """All test images of a product, and what is not judged of them.

    Attributes:
        parts: in the order of their paths.
        counted: bool (h, w) at the files' resolution, what is judged; None for all.
    """

    parts: tuple[LabelledPart, ...]
    counted: Bool | None

    @property
    def defective(self) -> Bool:
        """bool (N,)."""
        return np.array([part.defect is not None for part in self.parts])

    @property
    def images(self) -> list[Image]:
        """uint8 (256, 256, 3) RGB each."""
        return [part.image for part in self.parts]


@dataclass(frozen=True, eq=False)
class SmallMaps:
    """A detector's maps of N images before they become one; 16 KiB per map.

    Attributes:
        maps: float32 (K, N, 64, 64), the first is the error of features.
        fuse: how they become one.
        counted: bool (256, 256), what the run judges; None for all.
    """

    maps: Float
    fuse: Fuse
    counted: Bool | None


def read_parts(data: Path, settings: DataSettings) -> LabelledParts:
    """Read a product's test images; 192 KiB of memory each, and their masks at the files' resolution.

    Raises:
        ImageError: see `training.data.labelled.read_labelled`.
    """
    total = len(labelled_images(find_layout(data)))
    parts = tuple(tqdm(read_labelled(data, settings), "test images", total, mininterval=1, leave=False))
    ignore_mask = read_ignore_mask(settings)
    if ignore_mask is None:
        return LabelledParts(parts, None)
    x, y, width, height = settings.roi_xywh or (0, 0, ignore_mask.shape[1], ignore_mask.shape[0])
    return LabelledParts(parts, ignore_mask[y : y + height, x : x + width] == 0)


@torch.inference_mode()
def predict(run: Run, images: Sequence[Image], device: torch.device, snapshot: int | None = None) -> SmallMaps:
    """One pass of a run's network in float32.

    Args:
        run: trained.
        images: uint8 (256, 256, 3) RGB each.
        device: to compute on.
        snapshot: the epoch whose weights are taken, from 1; None for the result.

    Raises:
        ConfigError: a file of the run is missing or damaged.
        TfanetEdgeError: its weights lead to values that are not finite.
    """
    detector = run.detector(snapshot).to(device)
    batches: list[Float] = []
    # On CUDA convolutions would be rounded to TF32.
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with exact, tqdm(total=len(images), desc="detector", unit="image", mininterval=1, leave=False) as progress:
        for start in range(0, len(images), BATCH):
            batch = np.stack(images[start : start + BATCH])
            batches.append(torch.stack(detector.small_maps(torch.from_numpy(batch).to(device))).cpu().numpy())
            progress.update(len(batch))
    found = np.concatenate(batches, axis=1) if batches else np.empty((1, 0, 64, 64), np.float32)
    if not np.isfinite(found).all():
        raise TfanetEdgeError(f"the detector of '{run.path}' computes values that are not finite", "train again")
    ignored = run.ignored()
    return SmallMaps(found, detector.fuse, None if ignored is None else ~ignored)


@torch.inference_mode()
def anomaly_maps(found: SmallMaps, fusion: str) -> Float:
    """The detector's maps of a fusion, float32 (N, 256, 256); zero where nothing is judged."""
    smoothing = torch.from_numpy(smoothing_matrix())
    maps = np.empty((found.maps.shape[1], len(smoothing), len(smoothing)), np.float32)
    for index in range(len(maps)):
        of_image = tuple(torch.from_numpy(small) for small in found.maps[:, index])
        maps[index] = found.fuse(of_image, smoothing, fusion).numpy()
    return maps if found.counted is None else maps * found.counted


@torch.inference_mode()
def image_scores(maps: Float, rule: ScoreRule) -> Float:
    """The detector's scores of its maps, (N, 256, 256) → (N,)."""
    scores = [score_map(torch.from_numpy(anomaly_map[None]), rule).numpy() for anomaly_map in maps]
    return np.concatenate(scores) if scores else np.empty(0, np.float32)
