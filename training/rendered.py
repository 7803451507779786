"""Rendered parts as the station's network sees them: lens → Bayer sensor → `edge.preprocess`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from tqdm import tqdm

from edge.frame import Image
from edge.manifest import Preprocessing
from edge.pixel_format import PixelFormat
from edge.preprocess import preprocess
from simulator.defects import DefectKind
from simulator.parts import RenderedPart, render_part, to_bayer_rg8

PREPROCESSING = Preprocessing(input_size_px=(256, 256))


@dataclass(frozen=True)
class RenderedSet:
    """images uint8 (N,256,256,3) RGB; masks uint8 0/1 (N,256,256); kinds: the defect of each part, None when good."""

    images: Image
    masks: Image
    kinds: tuple[DefectKind | None, ...]


def network_input(part: RenderedPart) -> Image:
    """What the network gets for a part, uint8 (256,256,3) RGB."""
    out = np.empty((*PREPROCESSING.input_size_px, 3), np.uint8)
    preprocess(to_bayer_rg8(part.image_rgb), PixelFormat.BAYER_RG8, PREPROCESSING, out)
    return out


def rendered_set(
    seeds: Sequence[int], kinds: Sequence[DefectKind | None] | None = None, drift: float = 1.0
) -> RenderedSet:
    """Render one part per seed.

    Args:
        seeds: one per part.
        kinds: the defect of each part; None for good parts only.
        drift: see `render_part`.
    """
    wanted = tuple(kinds) if kinds is not None else (None,) * len(seeds)
    height_px, width_px = PREPROCESSING.input_size_px
    images = np.empty((len(seeds), height_px, width_px, 3), np.uint8)
    masks = np.zeros((len(seeds), height_px, width_px), np.uint8)
    pairs = zip(seeds, wanted, strict=True)
    for index, (seed, kind) in enumerate(tqdm(pairs, "render", len(seeds), mininterval=5, leave=False)):
        part = render_part(seed, kind, drift=drift)
        images[index] = network_input(part)
        # A cell is defective when any of its pixels is: thin defects survive the reduction.
        masks[index] = cv2.resize(part.gt_mask * 255, (width_px, height_px), interpolation=cv2.INTER_AREA) > 64
    return RenderedSet(images, masks, wanted)


def mixed_kinds(count: int, defective_share: float, seed: int) -> list[DefectKind | None]:
    """Good parts and, in that share, defects of all kinds in equal numbers, shuffled."""
    defective = round(count * defective_share)
    order = list(DefectKind)
    kinds = [order[index % len(order)] if index < defective else None for index in range(count)]
    return [kinds[index] for index in np.random.default_rng(seed).permutation(count)]
