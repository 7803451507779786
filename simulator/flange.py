"""The rendered product: a turned flange with a keyed bore, six bolt holes, a dowel hole and engraved marking.

Geometry and noise are computed once and kept; `simulator.parts` lights, poses and photographs them. Lengths are in
pixels of the canonical view, CANVAS_PX square, part centred, y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]

CANVAS_PX = 540
OUTER_RADIUS_PX = 226.0
BORE_RADIUS_PX = 46.0
HUB_RADIUS_PX = 98.0
BOLT_CIRCLE_PX = 158.0
BOLT_RADIUS_PX = 17.0
BOLT_COUNT = 6
ANGLE_STEPS = 2048
RADIUS_STEPS_PER_PX = 3
# Strokes as x, y pairs on a grid 4 wide and 6 high; OpenCV's own fonts differ between its versions.
GLYPHS: dict[str, tuple[tuple[int, ...], ...]] = {
    " ": (),
    "-": ((1, 3, 3, 3),),
    "0": ((1, 0, 3, 0, 4, 1, 4, 5, 3, 6, 1, 6, 0, 5, 0, 1, 1, 0),),
    "1": ((1, 1, 2, 0, 2, 6), (1, 6, 3, 6)),
    "4": ((3, 6, 3, 0, 0, 4, 4, 4),),
    "6": ((4, 0, 2, 0, 0, 2, 0, 5, 1, 6, 3, 6, 4, 5, 4, 4, 3, 3, 0, 3),),
    "8": ((1, 0, 3, 0, 4, 1, 4, 2, 3, 3, 1, 3, 0, 2, 0, 1, 1, 0), (1, 3, 0, 4, 0, 5, 1, 6, 3, 6, 4, 5, 4, 4, 3, 3)),
    "A": ((0, 6, 2, 0, 4, 6), (1, 4, 3, 4)),
    "D": ((0, 0, 3, 0, 4, 1, 4, 5, 3, 6, 0, 6, 0, 0),),
    "F": ((4, 0, 0, 0, 0, 6), (0, 3, 3, 3)),
    "N": ((0, 6, 0, 0, 4, 6, 4, 0),),
    "P": ((0, 6, 0, 0, 3, 0, 4, 1, 4, 2, 3, 3, 0, 3),),
    "T": ((0, 0, 4, 0), (2, 0, 2, 6)),
}


@dataclass(frozen=True)
class Flange:
    """Maps over the canonical view, each (CANVAS_PX, CANVAS_PX).

    Attributes:
        slope_x, slope_y: surface gradient towards the light, float32.
        albedo: reflectance with contact shadows, float32 0..1.
        turned: share of the surface that carries lathe grooves, float32 0..1.
        cover: share of the pixel that belongs to the part, holes included, float32 0..1.
        solid: as cover, without the openings, float32 0..1.
        radius: index into a profile of RADIUS_STEPS_PER_PX per pixel, intp.
        angle: index into a circle of ANGLE_STEPS, int32.
    """

    slope_x: Float
    slope_y: Float
    albedo: Float
    turned: Float
    cover: Float
    solid: Float
    radius: npt.NDArray[np.intp]
    angle: npt.NDArray[np.int32]


def bolt_centre(index: int) -> tuple[float, float]:
    """x, y of a bolt hole in the canonical view."""
    turn = 2 * np.pi * index / BOLT_COUNT
    middle = CANVAS_PX / 2
    return float(middle + BOLT_CIRCLE_PX * np.cos(turn)), float(middle + BOLT_CIRCLE_PX * np.sin(turn))


def _ramp(field: Float, start: float, end: float) -> Float:
    """Smooth step from 0 at `start` to 1 at `end`."""
    t = np.clip((field - start) / (end - start), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _openings(xs: Float, ys: Float, bolt_radius_px: float) -> Float:
    """Signed distance to the nearest opening, negative inside; x, y from the part's centre."""
    distance = np.hypot(xs, ys) - BORE_RADIUS_PX
    keyway = np.maximum(np.abs(xs) - 9, np.abs(ys + 40) - 24)
    distance = np.minimum(distance, keyway)
    distance = np.minimum(distance, np.hypot(xs - 137, ys - 79) - 6.5)
    if bolt_radius_px > 0:
        for index in range(BOLT_COUNT):
            x, y = bolt_centre(index)
            bolt = np.hypot(xs - x + CANVAS_PX / 2, ys - y + CANVAS_PX / 2) - bolt_radius_px
            distance = np.minimum(distance, bolt)
    return np.asarray(distance, np.float32)


def _engraving(text: str) -> Float:
    """The text as coverage 0..1, glyphs 4 units wide and 6 high, 8 pixels to the unit and one unit around."""
    plate = np.zeros((8 * 8, 8 * (6 * len(text) + 1)), np.uint8)
    for place, letter in enumerate(text):
        for stroke in GLYPHS[letter]:
            points = np.array(stroke, np.int32).reshape(-1, 2) * 8 + (8 + 48 * place, 8)
            cv2.polylines(plate, [points[:, None]], False, 255, 8, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(plate.astype(np.float32) / 255, (0, 0), 1.5), np.float32)


def _marking(radius: Float, theta: Float) -> Float:
    """Coverage 0..1 of the text engraved along the rim, above and below."""
    coverage = np.zeros_like(radius)
    for text, middle_turn, inward in (("TFA-N40", -np.pi / 2, 1), ("DN80 PN16", np.pi / 2, -1)):
        plate = _engraving(text)
        scale = plate.shape[0] / 23.0
        turn = np.angle(np.exp(1j * (theta - middle_turn)))
        u = (inward * turn * 184 * scale + plate.shape[1] / 2).astype(np.float32)
        v = ((184 - radius) * inward * scale + plate.shape[0] / 2).astype(np.float32)
        coverage = np.maximum(coverage, cv2.remap(plate, u, v, cv2.INTER_LINEAR, borderValue=0))
    return np.asarray(coverage, np.float32)


@lru_cache(maxsize=4)
def flange(bolt_radius_px: float = BOLT_RADIUS_PX) -> Flange:
    """The part with all its bolt holes of one radius; 0 leaves them out."""
    ys, xs = (np.mgrid[:CANVAS_PX, :CANVAS_PX] + 0.5 - CANVAS_PX / 2).astype(np.float32)
    radius, theta = np.hypot(xs, ys), np.arctan2(ys, xs)
    opening = _openings(xs, ys, bolt_radius_px)
    marking = _marking(radius, theta)
    height = 5 * _ramp(radius, HUB_RADIUS_PX + 6, HUB_RADIUS_PX)
    height -= 3.2 * _ramp(np.abs(radius - 116), 4.5, 2.5)
    height -= 3.5 * _ramp(radius, 202, 206) + 9 * _ramp(radius, OUTER_RADIUS_PX - 8, OUTER_RADIUS_PX + 2)
    height -= 5 * _ramp(opening, 5, 0) + 1.6 * marking
    height = np.asarray(cv2.GaussianBlur(height, (0, 0), 0.8), np.float32)
    slope_y, slope_x = np.gradient(height)
    wall_y, wall_x = np.gradient(opening)
    wall = np.where(opening < 0, 0.55 * np.exp(opening / 3.5), 0)
    occlusion = np.clip(1 - 0.16 * (cv2.GaussianBlur(height, (0, 0), 7) - height), 0.35, 1.05)
    open_cover = np.clip(0.5 - opening, 0, 1)
    cast = _ramp(radius, 203, 206)
    albedo = occlusion * (1 - 0.5 * marking) * (1 - 0.32 * cast)
    albedo = albedo * (1 - open_cover) + 0.04 * open_cover
    cover = np.clip(OUTER_RADIUS_PX + 0.5 - radius, 0, 1)
    return Flange(
        slope_x=(-slope_x * (1 - open_cover) - wall_x * wall).astype(np.float32),
        slope_y=(-slope_y * (1 - open_cover) - wall_y * wall).astype(np.float32),
        albedo=albedo.astype(np.float32),
        turned=((1 - cast) * (1 - 0.7 * marking)).astype(np.float32),
        cover=cover.astype(np.float32),
        solid=(cover * (1 - open_cover)).astype(np.float32),
        radius=(radius * RADIUS_STEPS_PER_PX).astype(np.intp),
        angle=((theta / (2 * np.pi) % 1) * ANGLE_STEPS).astype(np.int32),
    )


@lru_cache(maxsize=1)
def shadow() -> Float:
    """How much of the light the part takes from the belt around it, float32 0..1 over the canonical view."""
    return np.asarray(cv2.GaussianBlur(flange().cover, (0, 0), 11), np.float32)


@lru_cache(maxsize=1)
def noise_bank() -> npt.NDArray[np.float32]:
    """Standard normal samples, flat; a random offset stands for fresh sensor noise."""
    return np.random.default_rng(1).standard_normal(3_500_000, dtype=np.float32)


@lru_cache(maxsize=1)
def grain_bank() -> Float:
    """Cast grain of unit deviation, twice the canonical view wide."""
    rng = np.random.default_rng(2)
    raw = rng.standard_normal((2 * CANVAS_PX, 2 * CANVAS_PX), dtype=np.float32)
    mixed = 2.2 * cv2.GaussianBlur(raw, (0, 0), 1.1) + 5 * cv2.GaussianBlur(raw, (0, 0), 4.0)
    return np.asarray(mixed / mixed.std(), np.float32)


@lru_cache(maxsize=1)
def cloud_bank() -> Float:
    """Slow mottling of unit deviation, twice the canonical view wide."""
    rng = np.random.default_rng(3)
    raw = rng.standard_normal((45, 45), dtype=np.float32)
    smooth = cv2.resize(raw, (2 * CANVAS_PX, 2 * CANVAS_PX), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth / smooth.std(), np.float32)


@lru_cache(maxsize=1)
def belt_bank() -> Float:
    """A worn woven belt, float32 reflectance, twice the canonical view wide."""
    size = 2 * CANVAS_PX
    ys, xs = np.mgrid[:size, :size].astype(np.float32)
    warp = np.sin(xs * (2 * np.pi / 9)) * np.cos(np.floor(ys / 4.5) * np.pi)
    weave = 0.012 * warp * np.abs(np.sin(ys * (np.pi / 4.5)))
    rng = np.random.default_rng(4)
    raw = rng.standard_normal((size, size), dtype=np.float32)
    wear = 0.10 * cv2.GaussianBlur(raw, (0, 0), sigmaX=30, sigmaY=1.2) + 0.018 * cv2.GaussianBlur(raw, (0, 0), 0.8)
    return np.asarray(np.clip(0.125 + weave + wear, 0.02, 0.4), np.float32)
