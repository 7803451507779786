"""What a network costs: worked out by hand on networks that scale their answers, and which figures decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from calibration.calibrate import Calibrated
from calibration.evidence import Cost, Evidence, Tolerance, swap_share
from calibration.judged import FEW, MAX_CALIBRATION, MAX_JUDGED, some, split
from calibration.selection import Candidate, Selection
from calibration.table import refusal
from export.outputs import run_onnx

FREE = Cost(0, 0, 0, 0, 0, 0, 0, 0)
TOLERANCE = Tolerance(flip_share=0.005, swap_share=0.01, auroc=0.002, aupro=0.005)


def network(slope: float, offset: float = 0.0) -> bytes:
    """anomaly_map = slope * red + offset; score = its maximum."""
    nodes = [
        helper.make_node("Cast", ["image"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["as_float", "zero", "one", "three"], ["red"]),
        helper.make_node("Squeeze", ["red", "three"], ["plane"]),
        helper.make_node("Mul", ["plane", "slope"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["anomaly_map"]),
        helper.make_node("ReduceMax", ["anomaly_map"], ["score"], axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "red",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 256, 256, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["N", 256, 256]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
        ],
        [
            *(helper.make_tensor(n, TensorProto.INT64, [1], [v]) for n, v in (("zero", 0), ("one", 1), ("three", 3))),
            *(helper.make_tensor(n, TensorProto.FLOAT, [], [v]) for n, v in (("slope", slope), ("offset", offset))),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """Two good parts of 20 and 40 grey levels everywhere; two with a square of 60 and 100 on 20. NG from 50."""
    images, masks = np.full((4, 256, 256, 3), 20, np.uint8), np.zeros((4, 256, 256), np.uint8)
    images[1] = 40
    masks[2:, 100:132, 100:132] = 1
    for index, level in ((2, 60), (3, 100)):
        images[index][masks[index] == 1] = level
    return Evidence(images, masks, run_onnx(network(1.0), images, "fp32"), 50.0)


def test_the_network_itself_costs_nothing(evidence: Evidence) -> None:
    assert evidence.cost(network(1.0), "same") == FREE


def test_a_network_that_is_a_tenth_brighter_costs_a_tenth(evidence: Evidence) -> None:
    cost = evidence.cost(network(1.1), "brighter")
    assert cost.map_error == pytest.approx(0.1)
    assert cost.score_error == pytest.approx(0.1)
    assert (cost.flip_share, cost.expected_flip_share, cost.swap_share) == (0, 0, 0), "40 becomes 44, not 50"
    assert (cost.auroc, cost.pixel_auroc, cost.aupro) == (0, 0, 0)


def test_verdicts_that_change_are_counted_and_those_that_might(evidence: Evidence) -> None:
    cost = evidence.cost(network(1.3), "too bright")
    assert cost.flip_share == 1 / 4, "40 becomes 52"
    assert cost.expected_flip_share == 4 / 16, "by every ratio, which are all the same"
    # Ratios 31/20, 51/40, 71/60 and 111/100: 40 passes 50 by the first two only.
    shifted = evidence.cost(network(1.0, 11.0), "shifted")
    assert (shifted.flip_share, shifted.expected_flip_share) == (1 / 4, 2 / 16)


def test_a_network_that_takes_bad_for_good_loses_accuracy(evidence: Evidence) -> None:
    cost = evidence.cost(network(-1.0, 200.0), "inverted")
    assert cost.pixel_auroc > 0.9
    # By their brightest pixel, which is no defect any more, the defective parts equal one good part and beat the other.
    assert cost.auroc == pytest.approx(1 - 0.75)
    assert cost.swap_share == 1


def test_the_order_of_good_parts_is_compared_in_pairs() -> None:
    one, other = np.array([1, 2, 3], np.float32), np.array([1, 3, 2], np.float32)
    assert swap_share(one, one) == 0
    assert swap_share(one, other) == pytest.approx(1 / 3)
    assert swap_share(one, -one) == 1


@given(
    figure=st.sampled_from(["flip_share", "expected_flip_share", "swap_share", "auroc", "pixel_auroc", "aupro"]),
    amount=st.floats(0, 0.02),
)
def test_every_figure_can_forbid(figure: str, amount: float) -> None:
    limits = {"expected_flip_share": TOLERANCE.flip_share, "pixel_auroc": TOLERANCE.auroc}
    limit = limits[figure] if figure in limits else getattr(TOLERANCE, figure)
    cost = replace(FREE, **{figure: amount})
    assert TOLERANCE.allows(cost) == (amount <= limit)
    assert TOLERANCE.excess(cost) >= amount - limit


@pytest.mark.parametrize("count", [8, 15, 16, 31, 96, 97, 200, 400])
def test_parts_to_judge_by_are_not_calibrated_on_where_there_are_enough(count: int) -> None:
    images = np.arange(count, dtype=np.uint16)[:, None, None, None]
    calibration, judged = (part.ravel().tolist() for part in split(images))
    if count < 16:
        assert calibration == judged == list(range(count))
        return
    assert not set(calibration) & set(judged)
    assert len(judged) == min(MAX_JUDGED, count // 2)
    assert len(calibration) == min(MAX_CALIBRATION, count - len(judged))
    for part in (calibration, judged):
        assert part == sorted(part)
        assert np.diff(part).max() <= 2 * count / len(part) + 1, "spread over all of them"


def test_some_are_good_and_some_defective() -> None:
    images, masks = np.zeros((40, 256, 256, 3), np.uint8), np.zeros((40, 256, 256), np.uint8)
    images[:, 0, 0, 0] = np.arange(1, 41)
    masks[30:, 0, 0] = 1
    few = some(Evidence(images, masks, run_onnx(network(1.0), images, "fp32"), 50.0))
    assert len(few.images) == 2 * FEW
    assert few.masks.any(axis=(1, 2)).tolist() == [False] * FEW + [True] * FEW
    assert (np.diff(few.images[:, 0, 0, 0].astype(int)) > 0).all()
    np.testing.assert_array_equal(few.reference.scores, few.images[:, 0, 0, 0])


def test_a_refusal_names_the_candidate_that_came_closest() -> None:
    tried = [
        Candidate("all", frozenset("ab"), replace(FREE, flip_share=0.5)),
        Candidate("all but a", frozenset("b"), replace(FREE, expected_flip_share=0.009, aupro=-0.001)),
        Candidate("all but b", frozenset("a"), replace(FREE, auroc=0.03)),
    ]
    error = refusal(Calibrated({}, {}, Selection(tried, None), None), TOLERANCE)
    assert "closest is INT8 in all but a: 0.90% of the verdicts change" in error.problem
    assert "image AUROC by +0.00%, pixel AUROC by +0.00%, AUPRO by -0.10%" in error.problem
    assert "within 0.50% changed verdicts, 1.00% swapped pairs, 0.20% AUROC and 0.50% AUPRO" in error.problem
    assert error.remedy == "stay with fp16, or allow more"
