"""Outputs against golden vectors: what counts as off, and that nothing that is no number passes."""

import numpy as np
import pytest

from edge.bundle import GoldenVectors
from edge.engines.golden import compare_golden
from edge.manifest import Variant

VARIANT = Variant(file="x", opset=17, weights_dtype="float32", map_tolerance=0.01, score_tolerance=0.02)


@pytest.fixture
def golden():
    """Two vectors whose maps' maxima are 1 and 10, their scores 2 and 4."""
    maps = np.stack([np.linspace(0, top, 12, dtype=np.float32).reshape(3, 4) for top in (1, 10)])
    return GoldenVectors(np.zeros((2, 3, 4, 3), np.uint8), maps, np.array([2, 4], np.float32))


def test_errors_are_shares_of_each_vectors_own_golden_values(golden):
    maps, scores = golden.anomaly_map.copy(), golden.score.copy()
    maps[0, 0, 0] -= 0.005
    maps[1, 2, 1] += 0.04
    scores[1] -= 0.06
    result = compare_golden(maps, scores, golden)
    assert result.vectors == 2
    assert result.map_error == pytest.approx(0.005, rel=1e-4)
    assert result.score_error == pytest.approx(0.015, rel=1e-4)
    assert result.is_within(VARIANT)
    scores[0] += 0.05
    assert not compare_golden(maps, scores, golden).is_within(VARIANT)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("output", ["anomaly_map", "score"])
def test_what_is_no_number_is_off(golden, output, value):
    outputs = {"anomaly_map": golden.anomaly_map.copy(), "score": golden.score.copy()}
    outputs[output].flat[1] = value
    assert not compare_golden(**outputs, golden=golden).is_within(VARIANT)


def test_a_golden_map_of_zeros_proves_nothing(golden):
    golden.anomaly_map[0] = 0
    assert not compare_golden(golden.anomaly_map, golden.score, golden).is_within(VARIANT)
