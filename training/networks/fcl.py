"""Feature consistency (FCL) of a teacher and a student: element by element, and neighbourhood by neighbourhood.

A reconstruction of Li & Hu, IEEE TIM 2024, where the paper's text was not available. Per level, with teacher features
T, student features S and their SNC codes r and z (`training.networks.snc`),

    element        L_el = mean(1 − cos(T, S)), or the mean squared error for patch-description networks
    neighbourhood  L_nb = mean (r^T − r^S)² + L_el of the contexts z^T and z^S
    loss           Σ over levels (w_low · L_el + w_high · L_nb).

`snc` tells which parts of L_nb there are: `relation` is the first, `context` the second, `both` their sum, `none`
neither. At inference L_el per position is an element map. A neighbourhood map tells how much less an element is like
its neighbours than the student says (`relation_deficit`), or with `context` how far the contexts are apart. Each is
normalised by quantiles of maps of held-out good parts, and the neighbourhood map amplifies the element map (`gate`).

Decisions of ours: that relations are compared themselves and alone, what the map of neighbourhoods is, and that the
student learns elements only unless `high_weight` is raised to the paper's 1 (decision 0017); `low_weight`; that
neighbours are equally far away on the part at every level (`snc_reach`); the normalisation, which is EfficientAD's
(`low_quantile`, `high_quantile`, `quantile_scale`), whose quantiles are taken at 64×64 before upsampling and smoothing;
how levels become one element map (`level_fusion` of each detector), while neighbourhood maps, of one unit, are added
and smoothed; and that the map can be the mean of both or the element map alone (`fusion`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from edge.errors import TfanetEdgeError
from edge.frame import Image
from training.networks.features import FEATURE_SIZE
from training.networks.snc import MIN_NORM, context_code, inside, relation_code
from training.networks.trainable import Change, DetectorSettings, Maps

ElementDistance = Literal["cosine", "squared"]
LevelFusion = Literal["product", "sum"]
FclFusion = Literal["gated", "mean", "element"]
SncMode = Literal["none", "relation", "context", "both"]
_CHUNK = 8
SMOOTHING = 5
"""Edge of a mean, in elements of 64×64; it fills what lies between the edges of a defect."""
MAX_DEFICIT = 2.0
MIN_DEFICIT = 1e-4
"""A neighbourhood map of zero would make the quantiles of its normalisation equal."""
ABLATIONS = (
    *(Change("codes compared", mode, {"snc": mode}) for mode in get_args(SncMode)),
    *(Change("neighbourhood", f"{edge} × {edge}", {"snc_window": edge}) for edge in (3, 5)),
    *(Change("distance of neighbours", f"{reach} of 64", {"snc_reach": reach}) for reach in (1, 2, 4, 8)),
    *(Change("temperature", str(value), {"snc_temperature": value}) for value in (0.05, 0.1, 0.5)),
    *(
        Change("element : neighbourhood loss", f"{low:g} : {high:g}", {"low_weight": low, "high_weight": high})
        for low, high in ((1.0, 0.0), (1.0, 0.1), (1.0, 1.0), (0.0, 1.0))
    ),
)


class FclSettings(DetectorSettings):
    """What is compared, and how its maps become one."""

    fusion: FclFusion = Field(
        default="gated", description="element map amplified by the neighbourhood map, mean of both, or the first alone"
    )
    gate: float = Field(
        default=1.0, ge=0, description="what is added to the neighbourhood map before it amplifies, in quantile_scale"
    )
    snc: SncMode = Field(default="relation", description="which codes of neighbourhoods are compared")
    snc_window: int = Field(default=5, ge=3, le=15, description="edge of a neighbourhood in elements, odd")
    snc_reach: int = Field(
        default=4, ge=1, le=16, description="from one neighbour to the next, in elements of a level of 64×64"
    )
    snc_temperature: float = Field(default=0.1, gt=0, description="of the softmax that weighs a context's neighbours")
    low_weight: float = Field(default=1.0, ge=0, description="of the element loss")
    high_weight: float = Field(default=0.0, ge=0, description="of the neighbourhood loss; the paper's is 1")
    low_quantile: float = Field(default=0.9, ge=0, lt=1, description="of held-out maps")
    high_quantile: float = Field(
        default=0.995, gt=0, le=1, description="of held-out maps; lies quantile_scale above the other"
    )
    quantile_scale: float = Field(default=0.1, gt=0, description="what maps are normalised to")

    @model_validator(mode="after")
    def _check(self) -> FclSettings:
        if self.snc_window % 2 == 0:
            raise ValueError(f"snc_window {self.snc_window} is even, a neighbourhood has a centre")
        if (radius := self.snc_reach * (self.snc_window // 2)) > FEATURE_SIZE // 2:
            raise ValueError(
                f"snc_window {self.snc_window} with snc_reach {self.snc_reach} reaches {radius} elements away, "
                f"{FEATURE_SIZE // 2} are possible"
            )
        if self.low_quantile >= self.high_quantile:
            raise ValueError(f"low_quantile {self.low_quantile} is not below high_quantile {self.high_quantile}")
        return self


def element_map(teacher: Tensor, student: Tensor, distance: ElementDistance) -> Tensor:
    """1 − cosine, or mean squared difference over the channels: (N, C, H, W) each → (N, H, W)."""
    if distance == "squared":
        return (teacher - student).square().sum(1) / teacher.shape[1]
    norms = teacher.square().sum(1) * student.square().sum(1)
    return 1 - (teacher * student).sum(1) / norms.clamp(min=MIN_NORM**2).sqrt()


def relation_deficit(teacher: Tensor, student: Tensor, window: int, spacing: int) -> Tensor:
    """How much less an element is like its neighbours than the student says.

    Of two opposite neighbours the smaller deficit counts: what lies beside a defect has one of them in it, what is part
    of a small one has both outside. Pairs that reach over the border do not count; only in a corner, where all do, the
    neighbour inside stands for its pair.

    Args:
        teacher, student: relation codes of the same window and spacing, (N, k²−1, H, W).
        window: k.
        spacing: in elements; one of two opposite neighbours lies inside.

    Returns:
        Mean over the pairs, 1e-4 to 2: (N, H, W).
    """
    height, width = teacher.shape[2:]
    # With numpy, for the exporter writes down what torch computes even of constants.
    there = inside(height, width, window, spacing)
    half = len(there) // 2
    pairs = there[:half] & there[half:]
    counted = np.where(pairs.any(0), pairs, there[:half] | there[half:])
    weights = torch.from_numpy((counted / counted.sum(0)).astype(np.float32)).to(teacher)
    deficit = student - teacher + torch.from_numpy(np.float32(MAX_DEFICIT) * ~there).to(teacher)
    smaller = torch.minimum(deficit[:, :half], deficit[:, half:]).clamp(MIN_DEFICIT, MAX_DEFICIT)
    return (smaller * weights).sum(1)


def consistency_loss(
    teacher: Sequence[Tensor], student: Sequence[Tensor], distance: ElementDistance, settings: FclSettings
) -> Tensor:
    """The loss of one level or several, (N, C, H, W) each and of sizes of their own: a scalar."""
    loss = torch.zeros((), device=student[0].device)
    for ours, theirs in zip(teacher, student, strict=True):
        loss = loss + settings.low_weight * element_map(ours, theirs, distance).mean()
        loss = loss + neighbourhood_loss(ours, theirs, distance, settings)
    return loss


def neighbourhood_loss(teacher: Tensor, student: Tensor, distance: ElementDistance, settings: FclSettings) -> Tensor:
    """The weighted neighbourhood part of one level, zero with `snc: none` or a weight of zero."""
    loss = torch.zeros((), device=student.device)
    if settings.snc == "none" or settings.high_weight == 0:
        return loss
    codes = _relations(teacher, student, settings)
    if settings.snc != "context":
        loss = loss + (codes[0] - codes[1]).square().mean()
    if settings.snc != "relation":
        loss = loss + _context_distance((teacher, student), codes, distance, settings).mean()
    return settings.high_weight * loss


def neighbourhood_map(teacher: Tensor, student: Tensor, distance: ElementDistance, settings: FclSettings) -> Tensor:
    """The deficit of relations or, with `snc: context`, the distance of the contexts: (N, C, H, W) each → (N, H, W)."""
    codes = _relations(teacher, student, settings)
    if settings.snc == "context":
        return _context_distance((teacher, student), codes, distance, settings)
    return relation_deficit(*codes, settings.snc_window, _spacing(teacher, settings))


def _relations(teacher: Tensor, student: Tensor, settings: FclSettings) -> tuple[Tensor, Tensor]:
    spacing = _spacing(teacher, settings)
    return relation_code(teacher, settings.snc_window, spacing), relation_code(student, settings.snc_window, spacing)


def _context_distance(
    pair: tuple[Tensor, Tensor], codes: tuple[Tensor, Tensor], distance: ElementDistance, settings: FclSettings
) -> Tensor:
    """`element_map` of the context codes of teacher and student."""
    window, spacing, temperature = settings.snc_window, _spacing(pair[0], settings), settings.snc_temperature
    ours, theirs = (context_code(f, code, window, spacing, temperature) for f, code in zip(pair, codes, strict=True))
    return element_map(ours, theirs, distance)


def _spacing(level: Tensor, settings: FclSettings) -> int:
    return max(1, settings.snc_reach * level.shape[-1] // FEATURE_SIZE)


def consistency_maps(
    teacher: Sequence[Tensor],
    student: Sequence[Tensor],
    distance: ElementDistance,
    settings: FclSettings,
    fusion: LevelFusion,
) -> Tensor:
    """The element map and, unless `snc` is `none`, the neighbourhood map: (N, 1 or 2, 64, 64).

    Levels are brought to 64×64 bilinearly, then added; those of the element map as `fusion` says. The neighbourhood
    map is a mean over 5×5.
    """
    pairs = [*zip(teacher, student, strict=True)]
    maps = [_fused([element_map(*pair, distance) for pair in pairs], fusion)]
    if settings.snc != "none":
        deficit = _fused([neighbourhood_map(*pair, distance, settings) for pair in pairs], "sum")
        maps.append(F.avg_pool2d(deficit, SMOOTHING, 1, SMOOTHING // 2, count_include_pad=False))
    return torch.cat(maps, dim=1)


def _fused(levels: Sequence[Tensor], fusion: LevelFusion) -> Tensor:
    """(N, h, w) each → (N, 1, 64, 64)."""
    size = (FEATURE_SIZE, FEATURE_SIZE)
    fused, *others = (
        level[:, None]
        if level.shape[1:] == size
        else F.interpolate(level[:, None], size, mode="bilinear", align_corners=True)
        for level in levels
    )
    for level in others:
        fused = fused * level if fusion == "product" else fused + level
    return fused


class MapNormalisation(nn.Module):
    """Maps of several kinds → one: each scaled by its quantiles over good parts, then averaged.

    Args:
        kinds: K, how many maps an image has.
        settings: the quantiles and what the upper one becomes.

    Attributes:
        low, high: float32 (K, 1, 1), kept with the weights; until they are fitted the maps are just averaged.
    """

    low: Tensor
    high: Tensor

    def __init__(self, kinds: int, settings: FclSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("low", torch.zeros(kinds, 1, 1))
        self.register_buffer("high", torch.full((kinds, 1, 1), settings.quantile_scale))

    @torch.no_grad()
    def fit(self, compare: Callable[[Tensor], Tensor], images: Image) -> None:
        """Take the quantiles of held-out good parts.

        Args:
            compare: uint8 (N, 256, 256, 3) on this module's device → maps (N, K, h, w).
            images: uint8 (M, 256, 256, 3), not trained on.

        Raises:
            TfanetEdgeError: a kind of map is the same nearly everywhere, or not finite.
        """
        batches = torch.split(torch.from_numpy(images), _CHUNK)
        maps = torch.cat([compare(batch.to(self.low.device)).cpu() for batch in batches])
        kinds = maps.transpose(0, 1).flatten(1).double().numpy()
        low, high = np.quantile(kinds, (self.settings.low_quantile, self.settings.high_quantile), axis=1)
        flat = np.flatnonzero(~(high > low))
        if len(flat):
            raise TfanetEdgeError(
                f"map {flat[0]} of good parts goes from {low[flat[0]]} to {high[flat[0]]}: the student has collapsed",
                "lower the learning rate, or look for images that are all the same",
            )
        for buffer, values in ((self.low, low), (self.high, high)):
            buffer.copy_(torch.from_numpy(values).view(-1, 1, 1))

    def forward(self, maps: Tensor) -> Maps:
        """(N, K, h, w) → the first map as it is, then after normalisation the mean of all, and that of all but the
        second, which amplifies the first; with `snc: none` the last two are the same: (N, h, w) each.

        `low` is not subtracted: it moves all positions of all images alike, and a map below zero has no relative error.
        """
        settings = self.settings
        scaled = maps * (settings.quantile_scale / (self.high - self.low))
        mean = scaled.sum(1) / maps.shape[1]
        if settings.snc == "none":
            return maps[:, 0], mean, mean
        gain = settings.gate + scaled[:, 1] / settings.quantile_scale
        others = [scaled[:, kind] for kind in range(2, maps.shape[1])]
        return maps[:, 0], mean, sum(others, scaled[:, 0] * gain) / (1 + len(others))


def fuse(maps: Maps, smoothing: Tensor, fusion: str) -> Tensor:
    """Upsample and smooth one of the maps that `MapNormalisation` gives; see `training.networks.trainable.Fuse`."""
    element, mean, gated = maps
    return smoothing @ {"element": element, "mean": mean, "gated": gated}[fusion] @ smoothing.T
