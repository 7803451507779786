"""Defects of the rendered flange, each with its ground truth.

A defect is drawn in two places: relief in the canonical view before it is lit, pigment after. Both have compact
support inside the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np
import numpy.typing as npt

from simulator.flange import (
    BOLT_COUNT,
    BOLT_RADIUS_PX,
    BORE_RADIUS_PX,
    CANVAS_PX,
    OUTER_RADIUS_PX,
    Float,
    bolt_centre,
    flange,
)

WINDOW_PX = 176


class DefectKind(str, Enum):
    """What can be wrong with a part."""

    SCRATCH = "scratch"
    DENT = "dent"
    STAIN = "stain"
    MISSING_FEATURE = "missing_feature"
    FOREIGN_PARTICLE = "foreign_particle"


@dataclass(frozen=True)
class Defect:
    """One defect, as arrays over a window of the canonical view.

    Attributes:
        x_px, y_px: the window's left upper corner.
        mask: uint8 0/1 (WINDOW_PX, WINDOW_PX), what it changes noticeably.
        height: float32 relief to add before lighting, or None.
        gain: float32 factor on the lit surface, or None.
        opacity: float32 0..1 of what lies on top, or None.
        colour: RGB 0..1 of what lies on top.
        bolt: index of the bolt hole that is wrong and the radius it has, or None.
    """

    x_px: int
    y_px: int
    mask: npt.NDArray[np.uint8]
    height: Float | None = None
    gain: Float | None = None
    opacity: Float | None = None
    colour: tuple[float, float, float] = (0, 0, 0)
    bolt: tuple[int, float] | None = None

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the canonical view."""
        return slice(self.y_px, self.y_px + WINDOW_PX), slice(self.x_px, self.x_px + WINDOW_PX)


@dataclass(frozen=True)
class _Site:
    """A window of the canonical view and, inside it, the defect's centre."""

    x_px: int
    y_px: int
    centre: tuple[float, float]

    @property
    def xy(self) -> tuple[Float, Float]:
        """Coordinates from the centre, (WINDOW_PX, WINDOW_PX) each."""
        ys, xs = np.mgrid[:WINDOW_PX, :WINDOW_PX].astype(np.float32)
        return xs - np.float32(self.centre[0]), ys - np.float32(self.centre[1])

    @property
    def solid(self) -> Float:
        """The part's material inside the window."""
        return flange().solid[self.y_px : self.y_px + WINDOW_PX, self.x_px : self.x_px + WINDOW_PX]

    def on_solid(self, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
        """The mask without openings, uint8 0/1."""
        return (mask & (self.solid > 0.2)).astype(np.uint8)


def make_defect(kind: DefectKind, rng: np.random.Generator) -> Defect:
    """Draw one defect of that kind, its size, place and contrast from `rng`."""
    return {
        DefectKind.SCRATCH: _scratch,
        DefectKind.DENT: _dent,
        DefectKind.STAIN: _stain,
        DefectKind.MISSING_FEATURE: _missing_feature,
        DefectKind.FOREIGN_PARTICLE: _foreign_particle,
    }[kind](rng)


def _site(x: float, y: float) -> _Site:
    corner = [int(np.clip(round(v) - WINDOW_PX // 2, 0, CANVAS_PX - WINDOW_PX)) for v in (x, y)]
    return _Site(corner[0], corner[1], (x - corner[0], y - corner[1]))


def _place(rng: np.random.Generator, clearance_px: float) -> _Site:
    """A point on solid material at least `clearance_px` from the rim and the bore, and off the bolt holes."""
    bolts = [bolt_centre(index) for index in range(BOLT_COUNT)]
    while True:
        reach = rng.uniform(BORE_RADIUS_PX + clearance_px, OUTER_RADIUS_PX - clearance_px)
        turn = rng.uniform(0, 2 * np.pi)
        x, y = float(CANVAS_PX / 2 + reach * np.cos(turn)), float(CANVAS_PX / 2 + reach * np.sin(turn))
        if all(np.hypot(x - bx, y - by) > BOLT_RADIUS_PX + 0.5 * clearance_px for bx, by in bolts):
            return _site(x, y)


def _curve(rng: np.random.Generator, site: _Site, length_px: float, bend: float) -> npt.NDArray[np.int32]:
    """A smooth curve through the site in sixteenths of a pixel, for cv2's `shift=4`; (24, 1, 2)."""
    steps = 24
    wander = np.cumsum(rng.normal(0, 0.03 * abs(bend), steps))
    turns = rng.uniform(0, 2 * np.pi) + np.linspace(-0.5, 0.5, steps) * bend + wander
    path = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1), axis=0) * (length_px / steps)
    path += site.centre - path[steps // 2]
    return np.round(path * 16).astype(np.int32)[:, None]


def _stroke(curve: npt.NDArray[np.int32], width_px: float) -> Float:
    """Coverage of a curve of that width, float32 0..1."""
    line = np.zeros((WINDOW_PX, WINDOW_PX), np.uint8)
    cv2.polylines(line, [curve], False, 255, 1, cv2.LINE_AA, shift=4)
    blurred = cv2.GaussianBlur(line.astype(np.float32) / 255, (7, 7), 0.42 * width_px)
    return np.asarray(np.clip(blurred * 1.05 * width_px, 0, 1), np.float32)


def _scratch(rng: np.random.Generator) -> Defect:
    """A groove with a raised burr: catches the light on one side."""
    site = _place(rng, 24)
    cover = _stroke(_curve(rng, site, rng.uniform(45, 130), rng.normal(0, 0.5)), rng.uniform(2.6, 3.8))
    depth = rng.uniform(1.8, 3.0)
    bright = rng.uniform(0.55, 0.85) * rng.choice((-0.9, 1.0))
    mask = site.on_solid(cover > 0.12)
    return Defect(site.x_px, site.y_px, mask, height=-depth * cover, gain=1 + bright * cover)


def _dent(rng: np.random.Generator) -> Defect:
    """A shallow elliptical depression with a soft floor."""
    semi = rng.uniform(12, 22)
    site = _place(rng, semi + 14)
    ratio, turn = rng.uniform(0.65, 1), rng.uniform(0, np.pi)
    xs, ys = site.xy
    u = (xs * np.cos(turn) + ys * np.sin(turn)) / semi
    v = (ys * np.cos(turn) - xs * np.sin(turn)) / (semi * ratio)
    bowl = np.clip(1 - u**2 - v**2, 0, 1) ** 1.5
    height = (-rng.uniform(0.6, 0.95) * semi * bowl).astype(np.float32)
    gain = (1 - rng.uniform(0.22, 0.4) * bowl).astype(np.float32)
    return Defect(site.x_px, site.y_px, site.on_solid(bowl > 0.02), height=height, gain=gain)


def _stain(rng: np.random.Generator) -> Defect:
    """An irregular film of oil, rust or coolant with a darker drying edge."""
    reach = rng.uniform(16, 40)
    site = _place(rng, 16)
    xs, ys = site.xy
    turn = np.arctan2(ys, xs)
    waves = sum(rng.normal(0, 0.16 / k) * np.cos(k * turn + rng.uniform(0, 6)) for k in range(2, 7))
    distance = np.hypot(xs, ys) / (reach * (1 + waves))
    film = np.clip((1 - distance) / 0.18, 0, 1)
    edge = np.exp(-(((distance - 0.86) / 0.1) ** 2)) * film
    colour = ((0.20, 0.12, 0.06), (0.33, 0.17, 0.07), (0.12, 0.12, 0.13))[int(rng.integers(3))]
    opacity = ((rng.uniform(0.42, 0.68) * film + 0.18 * edge) * site.solid).astype(np.float32)
    return Defect(site.x_px, site.y_px, site.on_solid(film > 0.12), opacity=opacity, colour=colour)


def _missing_feature(rng: np.random.Generator) -> Defect:
    """A bolt hole that was not drilled, or only pre-drilled."""
    index = int(rng.integers(BOLT_COUNT))
    radius = 0.0 if rng.random() < 0.7 else 8.0
    site = _site(*bolt_centre(index))
    distance = np.hypot(*site.xy)
    mask = (distance <= BOLT_RADIUS_PX + 5).astype(np.uint8)
    return Defect(site.x_px, site.y_px, mask, bolt=(index, radius))


def _foreign_particle(rng: np.random.Generator) -> Defect:
    """A textile fibre or a curled chip lying on the part, with its shadow."""
    site = _place(rng, 14)
    if rng.random() < 0.5:
        curve = _curve(rng, site, rng.uniform(40, 95), rng.normal(0, 2.5))
        cover = _stroke(curve, rng.uniform(2.6, 3.6))
        colours = ((0.06, 0.08, 0.22), (0.55, 0.08, 0.07), (0.05, 0.05, 0.05), (0.85, 0.84, 0.80))
    else:
        turns = np.linspace(0, 2 * np.pi, 6, endpoint=False) + rng.uniform(-0.4, 0.4, 6)
        reach = rng.uniform(11, 16) * rng.uniform(0.6, 1, 6)
        corners = np.stack([np.cos(turns), np.sin(turns)], 1) * reach[:, None] + site.centre
        chip = np.zeros((WINDOW_PX, WINDOW_PX), np.uint8)
        cv2.fillPoly(chip, [np.round(corners * 16).astype(np.int32)[:, None]], 255, cv2.LINE_AA, shift=4)
        cover = np.asarray(cv2.GaussianBlur(chip.astype(np.float32) / 255, (3, 3), 0.6), np.float32)
        colours = ((0.62, 0.42, 0.14), (0.93, 0.93, 0.95), (0.08, 0.08, 0.09), (0.20, 0.30, 0.55))
    fallen = np.roll(cv2.GaussianBlur(cover, (7, 7), 1.6), (3, 2), (0, 1))
    gain = (1 - 0.55 * np.clip(fallen, 0, 1)).astype(np.float32)
    mask = ((cover > 0.15) | (fallen > 0.25)).astype(np.uint8)
    colour = colours[int(rng.integers(4))]
    return Defect(site.x_px, site.y_px, mask, gain=gain, opacity=cover * np.float32(0.95), colour=colour)
