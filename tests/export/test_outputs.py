"""Whose verdict changes, and how far two answers are apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import EngineError
from export.outputs import Outputs, changed_verdicts, measure_parity, run_onnx

SCORES = st.lists(st.tuples(*[st.floats(0.125, 100, width=32)] * 2), min_size=1, max_size=8)


def float32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def outputs(*scores: float) -> Outputs:
    """Maps that are their score everywhere."""
    return Outputs(np.broadcast_to(float32(*scores)[:, None, None], (len(scores), 2, 2)), float32(*scores))


def test_a_verdict_changes_where_only_one_side_reaches_the_threshold() -> None:
    changed = changed_verdicts(float32(1, 1, 3, 3), float32(1.9, 2.1, 2.1, 1.9), 2.0)
    assert changed.tolist() == [False, True, False, True]


@pytest.mark.parametrize("other", [1.9, 2.0, 2.1])
def test_the_part_that_the_threshold_was_fitted_to_changes_nothing(other: float) -> None:
    """Its score lies just below by the network that was fitted, whichever side that is on."""
    fitted = float32(2.0)
    threshold = float(np.nextafter(fitted, np.float32(np.inf))[0])
    assert not changed_verdicts(fitted, float32(other), threshold).any()
    assert not changed_verdicts(float32(other), fitted, threshold).any()


@given(pairs=SCORES, threshold=st.floats(0.25, 90))
def test_it_does_not_matter_which_side_is_the_reference(pairs: list[tuple[float, float]], threshold: float) -> None:
    one, other = (float32(*side) for side in zip(*pairs, strict=True))
    forth, back = changed_verdicts(one, other, threshold), changed_verdicts(other, one, threshold)
    assert forth.tolist() == back.tolist()
    assert not changed_verdicts(one, one, threshold).any()


def test_parity_is_the_worst_of_all_images() -> None:
    parity = measure_parity(outputs(1, 2, 4), outputs(1, 2.2, 3.8), "fp32", 3.9, "0" * 64)
    assert parity.map_error == pytest.approx(0.2 / 4)
    assert parity.score_error == pytest.approx(0.1)
    assert (parity.images, parity.flips, parity.reference) == (3, 1, "fp32")
    assert parity.score_correlation == pytest.approx(np.corrcoef([1, 2, 4], [1, 2.2, 3.8])[0, 1])


def test_scores_that_are_all_equal_have_no_correlation() -> None:
    assert measure_parity(outputs(1, 1), outputs(1, 2), "fp32", 3.0, "0" * 64).score_correlation is None


def test_a_network_that_cannot_be_loaded_is_told_of_in_one_line() -> None:
    with pytest.raises(EngineError, match="ONNX Runtime cannot load the network") as refused:
        run_onnx(b"no network", np.zeros((1, 256, 256, 3), np.uint8), "none")
    assert "\n" not in str(refused.value)
