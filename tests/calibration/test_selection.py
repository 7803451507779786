"""Which nodes are chosen: with costs that are known, the choice is known too."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from calibration.evidence import Cost, Tolerance
from calibration.selection import Selection, select

TOLERANCE = Tolerance(flip_share=0.005, swap_share=0.01, auroc=0.002, aupro=0.005)


def cost(map_error: float) -> Cost:
    """Half of the map error becomes changed verdicts."""
    return Cost(map_error, map_error, map_error / 2, map_error / 2, 0.0, 0.0, 0.0, 0.0)


def independent(errors: dict[str, float]):
    """Costs whose errors add up like variances."""
    return lambda nodes, label: cost(math.sqrt(sum(errors[node] ** 2 for node in nodes)))


def choose(measure) -> Selection:
    singles = {name: measure(frozenset(nodes), name) for name, nodes in GROUPS.items()}
    return select(GROUPS, singles, WORK, measure, measure, TOLERANCE)


GROUPS = {"stem": ["s"], "middle": ["m1", "m2", "m3"], "end": ["e1", "e2"]}
WORK = {"s": 10, "m1": 20, "m2": 20, "m3": 20, "e1": 15, "e2": 15}


def test_everything_is_taken_where_everything_is_harmless() -> None:
    found = choose(independent(dict.fromkeys(WORK, 1e-4)))
    assert found.chosen is not None
    assert found.chosen.nodes == frozenset(WORK)
    assert [candidate.label for candidate in found.tried] == ["all"]


def test_the_most_harmful_group_for_its_work_goes_first() -> None:
    errors = dict.fromkeys(WORK, 1e-4) | {"s": 0.05}
    found = choose(independent(errors))
    assert found.chosen is not None
    assert found.chosen.nodes == frozenset(WORK) - {"s"}
    assert [candidate.label for candidate in found.tried] == ["all", "all but stem"]


def test_harmless_nodes_of_a_group_that_was_left_out_come_back() -> None:
    errors = dict.fromkeys(WORK, 1e-4) | {"m2": 0.05}
    found = choose(independent(errors))
    assert found.chosen is not None
    assert found.chosen.nodes == frozenset(WORK) - {"m2"}
    assert found.chosen.label == "all but middle; 2 of 3 of middle"


def test_harmless_nodes_are_taken_where_every_group_has_a_harmful_one() -> None:
    errors = dict.fromkeys(WORK, 1e-4) | {"s": 0.05, "m2": 0.05, "e1": 0.05}
    found = choose(independent(errors))
    assert found.chosen is not None
    assert found.chosen.nodes == {"m1", "m3", "e2"}
    assert frozenset() in [candidate.nodes for candidate in found.tried]


def test_nothing_is_chosen_where_every_node_is_harmful() -> None:
    found = choose(independent(dict.fromkeys(WORK, 0.1)))
    assert found.chosen is None
    assert found.tried[len(GROUPS)].label == "none"


def test_the_search_ends_where_half_precision_alone_costs_too_much() -> None:
    found = choose(lambda nodes, label: cost(0.1))
    assert found.chosen is None
    assert len(found.tried) == len(GROUPS) + 1


@given(errors=st.fixed_dictionaries({node: st.floats(0, 0.02) for node in WORK}))
def test_what_is_chosen_is_within_the_tolerance_and_was_measured(errors: dict[str, float]) -> None:
    measure = independent(errors)
    found = choose(measure)
    if found.chosen is None:
        assert not any(TOLERANCE.allows(candidate.cost) for candidate in found.tried if candidate.nodes)
        return
    assert found.chosen in found.tried
    assert TOLERANCE.allows(found.chosen.cost)
    assert found.chosen.cost == measure(found.chosen.nodes, "")


@given(drop=st.floats(-0.1, 0.1))
def test_a_figure_may_neither_fall_nor_rise_too_much(drop: float) -> None:
    allowed = TOLERANCE.allows(Cost(0, 0, 0, 0, 0, auroc=drop, pixel_auroc=0, aupro=0))
    assert allowed == (abs(drop) <= TOLERANCE.auroc)
