"""Procedural images to teach a backbone generic edges, textures and shapes; no photograph is involved.

One image is a patchwork of two to four textures with shapes strewn over it, under uneven light, blur and noise.
Each pixel carries two labels: the texture's class and the class of the shape on top of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

BANK_SIZE_PX = 192
INSTANCES_PER_CLASS = 10
ORIENTATIONS = 4
SHAPES = ("none", "stroke", "disc", "ring", "polygon", "outline", "soft blob", "dots")


@dataclass(frozen=True)
class ProceduralImage:
    """image uint8 (S,S,3) RGB; clean: the same without noise; texture, shape: uint8 (S,S) class per pixel."""

    image: UInt8
    clean: UInt8
    texture: UInt8
    shape: UInt8


def _unit(field: Float) -> Float:
    low, high = np.percentile(field, (1, 99))
    return np.asarray(np.clip((field - low) / max(float(high - low), 1e-6), 0, 1), np.float32)


def _grid(size_px: int) -> tuple[Float, Float]:
    ys, xs = np.mgrid[:size_px, :size_px].astype(np.float32)
    return xs, ys


def spectral_noise(rng: np.random.Generator, slope: float, angle: float | None, size_px: int = BANK_SIZE_PX) -> Float:
    """Noise of spectrum 1/f^slope in 0..1; with an angle its power lies along that direction (a brushed surface)."""
    freq = np.fft.fftfreq(size_px)
    fx, fy = np.meshgrid(freq, freq)
    power = np.maximum(np.hypot(fx, fy), 1 / size_px) ** -slope
    if angle is not None:
        along = fx * np.cos(angle) + fy * np.sin(angle)
        power = power * np.exp(-((along / rng.uniform(0.008, 0.03)) ** 2))
    spectrum = np.fft.fft2(rng.standard_normal((size_px, size_px)))
    return _unit(np.real(np.fft.ifft2(spectrum * power)).astype(np.float32))


def grating(rng: np.random.Generator, angle: float, period_px: float, square: bool) -> Float:
    """A sine or square grating, slightly bent."""
    xs, ys = _grid(BANK_SIZE_PX)
    bend = 2 * np.sin(2 * np.pi * ys / rng.uniform(80, 200) + rng.uniform(0, 6))
    phase = (xs * np.cos(angle) + ys * np.sin(angle) + bend) * (2 * np.pi / period_px)
    wave = np.sin(phase).astype(np.float32)
    return _unit(np.tanh(4 * wave) if square else wave)


def checker(rng: np.random.Generator, cell_px: float) -> Float:
    """A rotated checkerboard."""
    xs, ys = _grid(BANK_SIZE_PX)
    angle = rng.uniform(0, np.pi)
    u, v = xs * np.cos(angle) + ys * np.sin(angle), ys * np.cos(angle) - xs * np.sin(angle)
    return _unit(np.tanh(3 * np.sin(np.pi * u / cell_px) * np.sin(np.pi * v / cell_px)).astype(np.float32))


def voronoi(rng: np.random.Generator, cells: int, borders: bool) -> Float:
    """Voronoi cells as flat tones, or their borders only."""
    seeds = np.full((BANK_SIZE_PX, BANK_SIZE_PX), 255, np.uint8)
    points = rng.integers(0, BANK_SIZE_PX, (cells, 2))
    seeds[points[:, 0], points[:, 1]] = 0
    distance, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    if borders:
        flat = rng.random(labels.max() + 1).astype(np.float32)[labels]
        edges = (cv2.morphologyEx(flat, cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0).astype(np.float32)
        return _unit(np.asarray(cv2.GaussianBlur(edges, (0, 0), 0.8), np.float32))
    tones: Float = rng.random(labels.max() + 1).astype(np.float32)[labels]
    return _unit(tones + 0.02 * np.asarray(distance, np.float32))


def spots(rng: np.random.Generator, count: int, radius_px: float, bright: bool) -> Float:
    """Discs of about one radius at random places."""
    canvas = np.zeros((BANK_SIZE_PX, BANK_SIZE_PX), np.float32)
    for x, y in rng.integers(0, BANK_SIZE_PX, (count, 2)):
        cv2.circle(
            canvas,
            (int(x), int(y)),
            max(1, round(radius_px * rng.uniform(0.7, 1.3))),
            rng.uniform(0.5, 1),
            -1,
            cv2.LINE_AA,
        )
    return canvas if bright else 1 - canvas


def strokes(rng: np.random.Generator, angle: float | None, count: int) -> Float:
    """Straight fibres, in one direction or in all."""
    canvas = np.zeros((BANK_SIZE_PX, BANK_SIZE_PX), np.float32)
    for x, y in rng.integers(0, BANK_SIZE_PX, (count, 2)):
        turn = rng.uniform(0, np.pi) if angle is None else angle + rng.normal(0, 0.12)
        reach = rng.uniform(8, 30)
        end = (int(x + reach * np.cos(turn)), int(y + reach * np.sin(turn)))
        cv2.line(canvas, (int(x), int(y)), end, rng.uniform(0.4, 1), int(rng.integers(1, 3)), cv2.LINE_AA)
    return canvas


def _texture_classes(rng: np.random.Generator) -> list[Float]:
    """One fresh instance of every texture class, in class order."""
    angles = [k * np.pi / ORIENTATIONS + rng.uniform(-0.15, 0.15) for k in range(ORIENTATIONS)]
    fields = [np.full((BANK_SIZE_PX, BANK_SIZE_PX), 0.5, np.float32)]
    fields += [spectral_noise(rng, slope, None) for slope in (0.3, 1.0, 1.6, 2.4)]
    fields += [spectral_noise(rng, 0.6, angle) for angle in angles]
    for low, high in ((4, 7), (9, 16)):
        fields += [grating(rng, angle, rng.uniform(low, high), bool(rng.integers(2))) for angle in angles]
    fields += [checker(rng, rng.uniform(3, 5)), checker(rng, rng.uniform(8, 14))]
    fields += [voronoi(rng, n, borders) for n in (60, 400) for borders in (False, True)]
    fields += [spots(rng, n, r, bright) for n, r in ((700, 1.2), (120, 4.0)) for bright in (False, True)]
    fields += [strokes(rng, angle, 250) for angle in (*angles, None)]
    return fields


@lru_cache(maxsize=1)
def texture_bank(seed: int) -> UInt8:
    """uint8 (classes, INSTANCES_PER_CLASS, BANK_SIZE_PX, BANK_SIZE_PX); the instances are drawn anew by cropping."""
    rng = np.random.default_rng(seed)
    instances = [_texture_classes(rng) for _ in range(INSTANCES_PER_CLASS)]
    return (np.stack([np.stack(fields) for fields in zip(*instances, strict=True)]) * 255).astype(np.uint8)


def _crop(bank: UInt8, texture: int, size_px: int, rng: np.random.Generator) -> Float:
    y, x = rng.integers(0, BANK_SIZE_PX - size_px + 1, 2)
    tile = bank[texture, rng.integers(INSTANCES_PER_CLASS), y : y + size_px, x : x + size_px]
    return np.asarray(tile[..., None] / 255, np.float32)


def _colours(rng: np.random.Generator) -> tuple[Float, Float]:
    """Two colours with a tonal distance of 0.1 to 0.6; half of the time nearly grey."""
    tint = 0.03 if rng.random() < 0.5 else 0.2
    base, span = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.6) * rng.choice((-1, 1))
    first = np.clip(base - span / 2 + rng.normal(0, tint, 3), 0, 1)
    second = np.clip(base + span / 2 + rng.normal(0, tint, 3), 0, 1)
    return first.astype(np.float32), second.astype(np.float32)


def _regions(rng: np.random.Generator, size_px: int) -> UInt8:
    """Two to four regions with curved borders: nearest of a few points on a warped grid; uint8 (S, S)."""
    xs, ys = _grid(size_px)
    warp = cv2.resize(
        rng.normal(0, 12, (4, 4, 2)).astype(np.float32), (size_px, size_px), interpolation=cv2.INTER_CUBIC
    )
    points = rng.uniform(0, size_px, (int(rng.integers(2, 5)), 2))
    distances = [(xs + warp[..., 0] - px) ** 2 + (ys + warp[..., 1] - py) ** 2 for px, py in points]
    return np.asarray(np.argmin(np.stack(distances), axis=0), np.uint8)


def _shape_mask(kind: int, rng: np.random.Generator, size_px: int) -> Float:
    """Coverage 0..1 of one shape of class `kind` (index into SHAPES)."""
    mask = np.zeros((size_px, size_px), np.float32)
    x, y = (int(v) for v in rng.integers(0, size_px, 2))
    radius = int(rng.integers(3, size_px // 6))
    if SHAPES[kind] == "stroke":
        steps = np.cumsum(rng.normal(rng.normal(0, 4, 2), 2, (int(rng.integers(3, 12)), 2)), axis=0) + np.array((x, y))
        cv2.polylines(mask, [steps.astype(np.int32)], False, 1.0, int(rng.integers(1, 4)), cv2.LINE_AA)
    elif SHAPES[kind] in ("disc", "ring"):
        axes = (radius, max(2, int(radius * rng.uniform(0.5, 1))))
        thickness = -1 if SHAPES[kind] == "disc" else int(rng.integers(1, 4))
        cv2.ellipse(mask, (x, y), axes, rng.uniform(0, 180), 0, 360, 1.0, thickness, cv2.LINE_AA)
    elif SHAPES[kind] in ("polygon", "outline"):
        turns = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        corners = np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], 1).astype(np.int32)
        if SHAPES[kind] == "polygon":
            cv2.fillPoly(mask, [corners], 1.0, cv2.LINE_AA)
        else:
            cv2.polylines(mask, [corners], True, 1.0, int(rng.integers(1, 3)), cv2.LINE_AA)
    elif SHAPES[kind] == "soft blob":
        xs, ys = _grid(size_px)
        mask = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * (0.6 * radius) ** 2)).astype(np.float32)
    else:
        for dx, dy in rng.normal(0, radius, (int(rng.integers(3, 12)), 2)):
            cv2.circle(mask, (int(x + dx), int(y + dy)), int(rng.integers(1, 3)), 1.0, -1, cv2.LINE_AA)
    return mask


def draw(seed: int, bank: UInt8, size_px: int) -> ProceduralImage:
    """One labelled image, deterministic in `seed`.

    Args:
        seed: of this image.
        bank: from `texture_bank`.
        size_px: edge length, at most BANK_SIZE_PX.
    """
    rng = np.random.default_rng(seed)
    region = _regions(rng, size_px)
    canvas = np.zeros((size_px, size_px, 3), np.float32)
    texture_label = np.zeros((size_px, size_px), np.uint8)
    for index in range(int(region.max()) + 1):
        texture = int(rng.integers(len(bank)))
        first, second = _colours(rng)
        inside = region == index
        canvas[inside] = (first + _crop(bank, texture, size_px, rng) * (second - first))[inside]
        texture_label[inside] = texture
    shape_label = np.zeros((size_px, size_px), np.uint8)
    for _ in range(int(rng.integers(1, 8))):
        kind = int(rng.integers(1, len(SHAPES)))
        mask = _shape_mask(kind, rng, size_px)
        first, second = _colours(rng)
        fill = (
            first
            if rng.random() < 0.7
            else first + _crop(bank, int(rng.integers(len(bank))), size_px, rng) * (second - first)
        )
        canvas += (mask * rng.uniform(0.35, 1))[..., None] * (fill - canvas)
        shape_label[mask > 0.4] = kind
    xs, ys = _grid(size_px)
    turn, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.5)
    light = 1 + strength * ((xs * np.cos(turn) + ys * np.sin(turn)) / size_px - 0.3)
    canvas = np.clip(canvas * light[..., None], 0, 1) ** rng.uniform(0.7, 1.4)
    if rng.random() < 0.6:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 1.3))
    noise = rng.standard_normal((size_px, size_px, 1), dtype=np.float32) * rng.uniform(0, 0.04)
    return ProceduralImage(
        image=(np.clip(canvas + noise, 0, 1) * 255).astype(np.uint8),
        clean=(canvas * 255).astype(np.uint8),
        texture=texture_label,
        shape=shape_label,
    )
