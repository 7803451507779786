"""FCL: which terms which mode has, how maps become one, and the scale that good parts give them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from edge.errors import TfanetEdgeError
from training.networks.anomaly_map import smoothing_matrix
from training.networks.fcl import (
    MapNormalisation,
    consistency_loss,
    consistency_maps,
    element_map,
    fuse,
    neighbourhood_loss,
    neighbourhood_map,
    relation_deficit,
)
from training.networks.snc import context_code, relation_code
from training.networks.stfpm import StfpmSettings


def configured(**fields: Any) -> StfpmSettings:
    return StfpmSettings(**{"snc_window": 3, "high_weight": 1.0, **fields})


@pytest.fixture
def levels() -> tuple[list[Tensor], list[Tensor]]:
    """Teacher and student at two sizes."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((2, 6, 16, 16), (2, 9, 8, 8))
    teacher, student = ([torch.randn(size, generator=generator) for size in sizes] for _ in range(2))
    return teacher, student


def codes(features: Tensor, spacing: int) -> tuple[Tensor, Tensor]:
    relations = relation_code(features, 3, spacing)
    return relations, context_code(features, relations, 3, spacing, 0.1)


def test_the_loss_is_the_weighted_sum_over_levels_of_what_is_written(levels: Any) -> None:
    teacher, student = levels
    expected = torch.zeros(())
    for ours, theirs, spacing in zip(teacher, student, (2, 1), strict=True):
        (relations_t, context_t), (relations_s, context_s) = (codes(features, spacing) for features in (ours, theirs))
        high = (1 - F.cosine_similarity(context_s, context_t, dim=1)).mean() + F.mse_loss(relations_s, relations_t)
        expected += 2 * (1 - F.cosine_similarity(ours, theirs, dim=1)).mean() + 3 * high
    settings = configured(snc="both", snc_reach=8, low_weight=2, high_weight=3)
    torch.testing.assert_close(consistency_loss(teacher, student, "cosine", settings), expected)


def test_modes_compare_relations_contexts_both_or_neither(levels: Any) -> None:
    (teacher, _), (student, _) = levels
    for distance in ("cosine", "squared"):
        relation, context, both = (
            neighbourhood_loss(teacher, student, distance, configured(snc=mode))
            for mode in ("relation", "context", "both")
        )
        torch.testing.assert_close(both, relation + context)
        assert relation > 0
        assert context > 0
    torch.testing.assert_close(
        consistency_loss([teacher], [student], "squared", configured(snc="none")), F.mse_loss(student, teacher)
    )


def test_contexts_have_a_direction_and_a_length(levels: Any) -> None:
    (teacher, _), _ = levels
    longer, settings = 3 * teacher, configured(snc="context")
    assert neighbourhood_map(teacher, longer, "cosine", settings).abs().max() < 1e-5
    expected = (2 * codes(teacher, 1)[1]).square().mean(1)
    torch.testing.assert_close(neighbourhood_map(teacher, longer, "squared", settings), expected)


def test_neighbours_are_equally_far_away_at_every_level(levels: Any) -> None:
    (large, small), _ = levels
    for features, spacings in ((large, {1: 1, 4: 1, 8: 2, 16: 4}), (small, {1: 1, 8: 1, 16: 2})):
        for reach, spacing in spacings.items():
            codes_of_both = relation_code(features, 3, spacing), relation_code(-features.abs(), 3, spacing)
            found = neighbourhood_map(features, -features.abs(), "cosine", configured(snc_reach=reach))
            torch.testing.assert_close(found, relation_deficit(*codes_of_both, 3, spacing))


def test_a_deficit_is_of_what_differs_from_both_sides() -> None:
    features = torch.zeros(1, 2, 16, 16)
    features[:, 0] = 1
    like_the_rest = features.clone()
    features[0, :, 7:9, 7:9] = torch.tensor([0.0, 1.0]).view(2, 1, 1)
    found = relation_deficit(*(relation_code(x, 3, 3) for x in (features, like_the_rest)), 3, 3)
    defect = features[:, 1] > 0
    torch.testing.assert_close(found[defect], torch.ones(4))
    assert found[~defect].max() < 0.001, "what lies beside a defect is none"
    reverse = relation_deficit(*(relation_code(x, 3, 3) for x in (like_the_rest, features)), 3, 3)
    assert reverse.max() < 0.001, "more alike than foreseen is no defect"


@pytest.mark.parametrize("corner", [(0, 0), (0, 6), (6, 0), (5, 10), (10, 10)], ids=str)
@pytest.mark.parametrize("window", [3, 5])
def test_a_deficit_at_the_border_counts_as_one_inside(window: int, corner: tuple[int, int]) -> None:
    row, column = corner
    like_the_rest = torch.zeros(1, 2, 12, 12)
    like_the_rest[:, 0] = 1
    features = like_the_rest.clone()
    features[0, :, row : row + 2, column : column + 2] = torch.tensor([0.0, 1.0]).view(2, 1, 1)
    found = relation_deficit(*(relation_code(x, window, 2) for x in (features, like_the_rest)), window, 2)
    defect = features[:, 1] > 0
    torch.testing.assert_close(found[defect], torch.ones(4))


@pytest.mark.parametrize("mode", ["none", "relation", "context", "both"])
def test_a_student_that_agrees_has_no_loss(mode: str, levels: Any) -> None:
    teacher, _ = levels
    for distance in ("cosine", "squared"):
        assert consistency_loss(teacher, teacher, distance, configured(snc=mode)).abs() < 1e-6


def mean_of_5(maps: Tensor) -> Tensor:
    """Over what lies inside."""
    there = F.unfold(torch.ones_like(maps), 5, padding=2).sum(1)
    return (F.unfold(maps, 5, padding=2).sum(1) / there).view_as(maps)


def test_a_weight_of_zero_leaves_the_elements_alone(levels: Any) -> None:
    teacher, student = levels
    elements = consistency_loss(teacher, student, "cosine", configured(snc="none"))
    for mode in ("relation", "both"):
        assert torch.equal(consistency_loss(teacher, student, "cosine", configured(snc=mode, high_weight=0)), elements)


def test_element_maps_of_levels_are_multiplied_or_added_and_neighbourhood_maps_added(levels: Any) -> None:
    teacher, student = levels
    pairs = [*zip(teacher, student, strict=True)]
    of_kinds = (
        [element_map(*pair, "cosine") for pair in pairs],
        [neighbourhood_map(*pair, "cosine", configured()) for pair in pairs],
    )
    kinds = [[F.interpolate(m[:, None], (64, 64), mode="bilinear", align_corners=True) for m in of] for of in of_kinds]
    for fusion, joined in (("product", torch.mul), ("sum", torch.add)):
        maps = consistency_maps(teacher, student, "cosine", configured(), fusion)
        torch.testing.assert_close(maps, torch.cat([joined(*kinds[0]), mean_of_5(torch.add(*kinds[1]))], dim=1))
    assert consistency_maps(teacher, student, "cosine", configured(snc="none"), "sum").shape == (2, 1, 64, 64)


def test_the_quantiles_of_good_parts_become_the_scale_apart() -> None:
    maps = torch.rand(20, 2, 8, 8, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 50.0]).view(2, 1, 1)
    normalisation = MapNormalisation(2, configured(low_quantile=0.5, high_quantile=0.75, quantile_scale=0.2))
    images = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)
    normalisation.fit(lambda batch: maps[batch.flatten().long()], images)
    low, high = (np.quantile(maps.numpy().swapaxes(0, 1).reshape(2, -1), q, axis=1) for q in (0.5, 0.75))
    for kind in range(2):
        at_low = torch.from_numpy(low).float().view(1, 2, 1, 1)
        at_high = at_low.clone()
        at_high[0, kind] = float(high[kind])
        (_, lower, _), (element, higher, _) = normalisation(at_low), normalisation(at_high)
        assert (higher - lower).item() == pytest.approx(0.2 / 2, abs=1e-6)
        assert element.item() == at_high[0, 0].item()
    assert (normalisation(maps)[1] >= 0).all()
    again = MapNormalisation(2, configured(low_quantile=0.5, high_quantile=0.75, quantile_scale=0.2))
    again.load_state_dict(normalisation.state_dict())
    assert torch.equal(again(maps)[1], normalisation(maps)[1])


def test_maps_that_are_the_same_everywhere_are_refused() -> None:
    normalisation = MapNormalisation(1, configured())
    for value in (0.5, float("nan")):
        with pytest.raises(TfanetEdgeError, match="map 0 of good parts"):
            normalisation.fit(
                lambda batch, v=value: torch.full((len(batch), 1, 8, 8), v), np.zeros((3, 1, 1, 1), np.uint8)
            )


def test_neighbourhoods_amplify_elements_and_leave_other_maps_alone() -> None:
    maps = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    normalisation = MapNormalisation(3, configured(gate=0.25, quantile_scale=0.5))
    normalisation.high.copy_(torch.tensor([0.5, 2.0, 0.25]).view(3, 1, 1))
    element, mean, gated = normalisation(maps)
    torch.testing.assert_close(element, maps[:, 0])
    torch.testing.assert_close(mean, (maps[:, 0] + 0.25 * maps[:, 1] + 2 * maps[:, 2]) / 3)
    torch.testing.assert_close(gated, (maps[:, 0] * (0.25 + 0.5 * maps[:, 1]) + 2 * maps[:, 2]) / 2)


def test_without_neighbourhoods_nothing_is_amplified() -> None:
    _, mean, gated = MapNormalisation(2, configured(snc="none"))(torch.rand(1, 2, 8, 8))
    assert torch.equal(mean, gated)


def test_the_map_is_one_of_three() -> None:
    maps = torch.rand(3, 1, 64, 64)
    smoothing = torch.from_numpy(smoothing_matrix())
    for name, chosen in zip(("element", "mean", "gated"), maps, strict=True):
        torch.testing.assert_close(fuse((*maps,), smoothing, name), smoothing @ chosen @ smoothing.T)


@pytest.mark.parametrize(
    "fields",
    [
        {"snc_window": 4},
        {"low_quantile": 0.99, "high_quantile": 0.9},
        {"snc": "all"},
        {"snc_temperature": 0},
        {"snc_reach": 0},
        {"snc_reach": 11, "snc_window": 7},
        {"k": 3},
    ],
)
def test_settings_that_mean_nothing_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        configured(**fields)
