"""Pictures with known defects, made of good ones: what a change of precision costs where nobody labelled defects.

Three kinds, in the spirit of CutPaste (Li et al., CVPR 2021) and DRAEM (Zavrtanik et al., ICCV 2021): a patch from
another place, a thin scar, a blot with a soft edge. They serve to compare two networks; how well one finds real defects
they do not tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from edge.frame import Image

Float = npt.NDArray[np.float32]
MIN_AREA_SHARE, MAX_AREA_SHARE = 0.001, 0.05
MIN_STRENGTH, MAX_STRENGTH = 8.0, 90.0


def with_defects(images: Image, seed: int) -> tuple[Image, Image]:
    """A copy of each image with one defect, and where it is.

    Args:
        images: uint8 (N, H, W, 3), good parts.
        seed: image i's defect follows from it and i alone.

    Returns:
        uint8 (N, H, W, 3), and masks uint8 (N, H, W): 1 exactly where a pixel differs, never empty.
    """
    damaged, masks = images.copy(), np.zeros(images.shape[:3], np.uint8)
    for index, image in enumerate(images):
        rng = np.random.default_rng((seed, index))
        while not masks[index].any():
            damaged[index] = _KINDS[rng.integers(len(_KINDS))](image, rng)
            masks[index] = (damaged[index] != image).any(axis=2)
    return damaged, masks


def _patch(image: Image, rng: np.random.Generator) -> Image:
    """A turned rectangle from another place, a little darker or brighter."""
    height_px, width_px = image.shape[:2]
    area_px = _area_share(rng) * height_px * width_px
    ratio = math.exp(rng.uniform(-1, 1))
    centre, source = rng.uniform(0.15, 0.85, (2, 2)) * (width_px, height_px)
    angle = rng.uniform(0, 180)
    box = ((float(centre[0]), float(centre[1])), (math.sqrt(area_px * ratio), math.sqrt(area_px / ratio)), angle)
    shape = np.zeros((height_px, width_px), np.uint8)
    cv2.fillPoly(shape, [cv2.boxPoints(box).round().astype(np.int32)], 1)
    turn = cv2.getRotationMatrix2D((float(source[0]), float(source[1])), angle, 1.0)
    turn[:, 2] += centre - source
    moved = cv2.warpAffine(image, turn, (width_px, height_px), borderMode=cv2.BORDER_REFLECT)
    return _blend(image, moved + rng.normal(0, 0.2 * _strength(rng)), shape.astype(np.float32))


def _scar(image: Image, rng: np.random.Generator) -> Image:
    """A thin bent line of one colour."""
    height_px, width_px = image.shape[:2]
    points = np.cumsum(
        np.concatenate([rng.uniform(0.2, 0.8, (1, 2)), rng.normal(0, 0.06, (rng.integers(2, 5), 2))]), axis=0
    ) * (width_px, height_px)
    shape = np.zeros((height_px, width_px), np.float32)
    thickness = int(rng.integers(1, 4))
    cv2.polylines(shape, [(16 * points).round().astype(np.int32)], False, 1.0, thickness, cv2.LINE_AA, 4)
    return _blend(image, image + _shift(rng), shape)


def _blot(image: Image, rng: np.random.Generator) -> Image:
    """An area with a soft edge and another colour."""
    height_px, width_px = image.shape[:2]
    noise = rng.normal(size=(height_px, width_px)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.02, 0.06) * width_px, borderType=cv2.BORDER_REFLECT)
    rows, columns = np.mgrid[:height_px, :width_px] / np.array([height_px, width_px])[:, None, None]
    centre, share = rng.uniform(0.2, 0.8, 2), _area_share(rng)
    distance = np.hypot(rows - centre[0], columns - centre[1]) / math.sqrt(share)
    level = (smooth / smooth.std() * 0.3 - distance).astype(np.float32)
    limit = np.quantile(level, 1 - share)
    return _blend(image, image + _shift(rng), np.clip((level - limit) * 6, 0, 1))


_KINDS: tuple[Callable[[Image, np.random.Generator], Image], ...] = (_patch, _scar, _blot)


def _blend(image: Image, other: npt.NDArray[np.floating], opacity: Float) -> Image:
    mixed = image + opacity[..., None] * (other - image)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _shift(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A change of colour, (3,), mostly of brightness."""
    return np.asarray(rng.choice((-1.0, 1.0)) * _strength(rng) * rng.uniform(0.6, 1.0, 3))


def _strength(rng: np.random.Generator) -> float:
    """Grey levels; the weak are as frequent as the strong."""
    return math.exp(rng.uniform(math.log(MIN_STRENGTH), math.log(MAX_STRENGTH)))


def _area_share(rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(math.log(MIN_AREA_SHARE), math.log(MAX_AREA_SHARE)))
