"""Photographs of the rendered flange on its belt: pose, light, texture and sensor noise differ from part to part.

The seed ranges of the demo's data are defined here and nowhere else; they do not overlap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from edge.frame import Image
from simulator.defects import Defect, DefectKind, make_defect
from simulator.flange import (
    ANGLE_STEPS,
    BOLT_RADIUS_PX,
    CANVAS_PX,
    RADIUS_STEPS_PER_PX,
    Flange,
    Float,
    belt_bank,
    bolt_centre,
    cloud_bank,
    flange,
    grain_bank,
    noise_bank,
    shadow,
)

TRAIN_SEEDS = range(1_000, 2_000)
HELD_OUT_SEEDS = range(10_000, 20_000)
VALIDATION_SEEDS = range(20_000, 30_000)
TEST_SEEDS = range(100_000, 1_000_000)


@dataclass(frozen=True)
class RenderedPart:
    """image_rgb uint8 (H,W,3); gt_mask uint8 0/1 (H,W), empty for a good part; defect is None for a good part."""

    image_rgb: Image
    gt_mask: Image
    defect: DefectKind | None


@dataclass(frozen=True)
class _Scene:
    """What differs from part to part: a nest on the belt holds it, the lamp and the camera drift a little."""

    turn_deg: float
    shift_px: tuple[float, float]
    scale: float
    azimuth: float
    level: float
    ramp: tuple[float, float]
    warmth: float
    noise: float


def render_part(
    seed: int, defect: DefectKind | None, size_px: tuple[int, int] = (CANVAS_PX, CANVAS_PX), drift: float = 1.0
) -> RenderedPart:
    """One part as the camera's lens sees it.

    The same seed gives the same part, light, pose and noise whatever the defect, so two renders of one seed differ
    only where the defect is.

    Args:
        seed: not negative.
        defect: None for a good part.
        size_px: height, width; the part fills the shorter edge.
        drift: how far pose and light stray, as a multiple of what the station sees; training takes a wider range.
    """
    rng = np.random.default_rng([seed, 0])
    scene = _draw_scene(rng, drift)
    flaw = None if defect is None else make_defect(defect, np.random.default_rng([seed, 1]))
    lit = _lit_surface(_with_bolt(flaw), flaw, scene, rng)
    return _photograph(lit, flaw, defect, scene, size_px, rng)


def to_bayer_rg8(image_rgb: Image) -> Image:
    """What a colour sensor reads out: uint8 (H,W,3) RGB → uint8 (H,W) in PFNC's BayerRG8 order."""
    raw = np.empty(image_rgb.shape[:2], np.uint8)
    raw[0::2, 0::2] = image_rgb[0::2, 0::2, 0]
    raw[0::2, 1::2] = image_rgb[0::2, 1::2, 1]
    raw[1::2, 0::2] = image_rgb[1::2, 0::2, 1]
    raw[1::2, 1::2] = image_rgb[1::2, 1::2, 2]
    return raw


def _draw_scene(rng: np.random.Generator, drift: float) -> _Scene:
    return _Scene(
        turn_deg=drift * rng.uniform(-0.75, 0.75),
        shift_px=(drift * rng.uniform(-1.5, 1.5), drift * rng.uniform(-1.5, 1.5)),
        scale=1 + drift * rng.uniform(-0.0025, 0.0025),
        azimuth=np.deg2rad(-125 + drift * rng.uniform(-2.5, 2.5)),
        level=0.99 + drift * rng.uniform(-0.035, 0.035),
        ramp=(drift * rng.uniform(-0.03, 0.03), drift * rng.uniform(-0.03, 0.03)),
        warmth=drift * rng.uniform(-0.0125, 0.0125),
        noise=rng.uniform(0.007, 0.014),
    )


def _with_bolt(flaw: Defect | None) -> Flange:
    """The flange, with one bolt hole exchanged when the defect asks for it."""
    good = flange(BOLT_RADIUS_PX)
    if flaw is None or flaw.bolt is None:
        return good
    index, radius_px = flaw.bolt
    x, y = bolt_centre(index)
    rows, columns = np.mgrid[flaw.window]
    inside = np.hypot(columns - x, rows - y) < BOLT_RADIUS_PX + 6.5
    wrong = flange(radius_px)

    def exchanged(good_map: Float, wrong_map: Float) -> Float:
        mixed: Float = good_map.copy()
        mixed[flaw.window] = np.where(inside, wrong_map[flaw.window], good_map[flaw.window])
        return mixed

    return replace(
        good,
        slope_x=exchanged(good.slope_x, wrong.slope_x),
        slope_y=exchanged(good.slope_y, wrong.slope_y),
        albedo=exchanged(good.albedo, wrong.albedo),
        solid=exchanged(good.solid, wrong.solid),
    )


def _window(bank: Float, rng: np.random.Generator) -> Float:
    y, x = rng.integers(0, CANVAS_PX, 2)
    return bank[y : y + CANVAS_PX, x : x + CANVAS_PX]


def _highlights(azimuth: float, rng: np.random.Generator) -> Float:
    """Brightness over the circle: a turned face throws two fans towards the lamp and a fainter pair aside."""
    theta = np.linspace(0, 2 * np.pi, ANGLE_STEPS, endpoint=False, dtype=np.float32)
    main = np.exp(rng.uniform(3.4, 3.8) * (np.cos(2 * (theta - azimuth)) - 1)) * (1 + 0.3 * np.cos(theta - azimuth))
    side = np.exp(9 * (np.cos(2 * (theta - azimuth - 1.15)) - 1))
    return np.asarray(0.40 + 0.46 * main + 0.12 * side, np.float32)


def _lit_surface(part: Flange, flaw: Defect | None, scene: _Scene, rng: np.random.Generator) -> Float:
    """Luminance of the part in the canonical view."""
    azimuth = scene.azimuth - np.deg2rad(scene.turn_deg)
    steps = RADIUS_STEPS_PER_PX * CANVAS_PX
    fine = rng.standard_normal(steps).astype(np.float32)
    grooves = 0.6 * fine + 2.2 * cv2.GaussianBlur(fine, (0, 0), 4, borderType=cv2.BORDER_REFLECT).ravel()
    wobble = np.convolve(rng.standard_normal(steps), np.ones(5) / 5, "same") * 26
    face = np.take(
        _highlights(azimuth, rng), (part.angle + np.take(wobble.astype(np.int32), part.radius)) & (ANGLE_STEPS - 1)
    )
    face *= np.take(1 + 0.055 * grooves, part.radius)
    face *= 1 + 0.022 * _window(cloud_bank(), rng)
    cast = 0.46 + 0.055 * _window(grain_bank(), rng)
    luminance = (cast + part.turned * (face - cast)) * part.albedo
    towards = np.float32(0.30 * np.cos(azimuth)) * part.slope_x + np.float32(0.30 * np.sin(azimuth)) * part.slope_y
    if flaw is not None and flaw.height is not None:
        down, right = np.gradient(flaw.height * part.solid[flaw.window])
        towards[flaw.window] -= 0.30 * (np.cos(azimuth) * right + np.sin(azimuth) * down)
    # A facet turned to the lamp gains more than one turned away loses.
    luminance += np.maximum(towards, 0.5 * towards)
    if flaw is not None and flaw.gain is not None:
        luminance[flaw.window] *= 1 + (flaw.gain - 1) * part.solid[flaw.window]
    return np.asarray(luminance, np.float32)


def _pose(scene: _Scene, size_px: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Canonical view → image, (2, 3)."""
    zoom = min(size_px) / CANVAS_PX
    turn = np.deg2rad(scene.turn_deg)
    linear = scene.scale * zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    target = np.array([size_px[1], size_px[0]]) / 2 + zoom * np.array(scene.shift_px)
    centre = np.full(2, CANVAS_PX / 2)
    return np.column_stack([linear, target - linear @ centre])


def _photograph(
    lit: Float,
    flaw: Defect | None,
    defect: DefectKind | None,
    scene: _Scene,
    size_px: tuple[int, int],
    rng: np.random.Generator,
) -> RenderedPart:
    height_px, width_px = size_px
    pose = _pose(scene, size_px)
    fallen = pose.copy()
    reach = 14 * min(size_px) / CANVAS_PX
    fallen[:, 2] -= (reach * np.cos(scene.azimuth), reach * np.sin(scene.azimuth))

    def posed(field: Float, matrix: npt.NDArray[np.float64]) -> Float:
        return np.asarray(cv2.warpAffine(field, matrix, (width_px, height_px), flags=cv2.INTER_LINEAR), np.float32)

    belt = np.asarray(cv2.resize(_window(belt_bank(), rng), (width_px, height_px)), np.float32)
    belt *= 1 - 0.72 * posed(shadow(), fallen)
    cover = posed(flange().cover, pose)
    luminance = belt + cover * (posed(lit, pose) - belt)
    ys = np.linspace(-1, 1, height_px, dtype=np.float32)[:, None]
    xs = np.linspace(-1, 1, width_px, dtype=np.float32)
    luminance *= scene.level * (1 + scene.ramp[0] * xs + scene.ramp[1] * ys)
    metal = (1.0 + scene.warmth, 0.99, 0.965 - scene.warmth)
    rubber = (0.88, 0.99, 1.04)
    noise_start = int(rng.integers(noise_bank().size - 3 * CANVAS_PX * CANVAS_PX))
    noise = np.resize(noise_bank()[noise_start:], (3, height_px, width_px))
    opacity = None if flaw is None or flaw.opacity is None else posed(_on_canvas(flaw.opacity, flaw), pose)
    image = np.empty((height_px, width_px, 3), np.uint8)
    for channel in range(3):
        plane = luminance * (np.float32(metal[channel] - rubber[channel]) * cover + np.float32(rubber[channel]))
        if flaw is not None and opacity is not None:
            # What lies on top scatters light, and lets some of the metal's shading through.
            plane += opacity * (flaw.colour[channel] * scene.level * (0.7 + 0.4 * luminance) - plane)
        # Shot noise grows with the signal.
        plane += noise[channel] * (np.float32(scene.noise) * (0.5 + plane))
        image[..., channel] = np.clip(plane, 0, 1, out=plane) * 255
    gt_mask = np.zeros(size_px, np.uint8)
    if flaw is not None:
        gt_mask = (posed(_on_canvas(flaw.mask.astype(np.float32), flaw), pose) > 0.3).astype(np.uint8)
    return RenderedPart(image, gt_mask, defect)


def _on_canvas(patch: Float, flaw: Defect) -> Float:
    canvas = np.zeros((CANVAS_PX, CANVAS_PX), np.float32)
    canvas[flaw.window] = patch
    return canvas
