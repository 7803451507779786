"""Which nodes compute in INT8: the largest part of the work that stays within the tolerance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from calibration.evidence import Cost, Tolerance

Nodes = frozenset[str]
Measure = Callable[[Nodes, str], Cost]


@dataclass(frozen=True)
class Candidate:
    """A set of nodes in INT8 and what it costs."""

    label: str
    nodes: Nodes
    cost: Cost


@dataclass(frozen=True)
class Selection:
    """What was measured, and what came of it.

    Attributes:
        tried: sets of groups and of nodes, in this order; one is empty where no group alone is within the tolerance.
        chosen: the largest within the tolerance; None where no node is.
    """

    tried: Sequence[Candidate]
    chosen: Candidate | None


def select(
    groups: Mapping[str, Sequence[str]],
    singles: Mapping[str, Cost],
    work: Mapping[str, int],
    glance: Measure,
    measure: Measure,
    tolerance: Tolerance,
) -> Selection:
    """Leave out the group that costs most for its work until the rest is within the tolerance, then take nodes back.

    Errors of separate groups add up like variances, so a group's harm is its squared map error per multiply-accumulate.

    Args:
        groups: names of their nodes.
        singles: what each group alone costs.
        work: multiply-accumulates by node.
        glance: what a set of nodes costs, roughly, to rank single nodes by; its second argument says what is measured.
        measure: the same in earnest.
        tolerance: what the result may cost.
    """
    harm = {name: singles[name].map_error ** 2 / sum(work[node] for node in nodes) for name, nodes in groups.items()}
    kept, left_out = sorted(groups, key=harm.__getitem__), list[str]()
    tried: list[Candidate] = []
    while kept:
        label = "all" if not left_out else "all but " + ", ".join(reversed(left_out))
        nodes = frozenset(node for name in kept for node in groups[name])
        tried.append(Candidate(label, nodes, measure(nodes, label)))
        if tolerance.allows(tried[-1].cost):
            break
        left_out.append(kept.pop())
    if not kept:
        # Half precision costs something too.
        tried.append(Candidate("none", frozenset(), measure(frozenset(), "none")))
        if not tolerance.allows(tried[-1].cost):
            return Selection(tried, None)
    chosen = tried[-1]
    for name in reversed(left_out):
        harm = {node: glance(frozenset({node}), f"{name}: {node}").map_error ** 2 / work[node] for node in groups[name]}
        ranked = sorted(groups[name], key=harm.__getitem__)
        chosen = _take_back(chosen, name, ranked, measure, tolerance, tried) or chosen
    return Selection(tried, chosen if chosen.nodes else None)


def _take_back(
    chosen: Candidate,
    group: str,
    ranked: Sequence[str],
    measure: Measure,
    tolerance: Tolerance,
    tried: list[Candidate],
) -> Candidate | None:
    """As many nodes of a group that was left out as the tolerance allows, the least harmful first; by bisection."""
    low, high, best = 0, len(ranked), None
    while high - low > 1:
        count = (low + high) // 2
        label = f"{chosen.label}; {count} of {len(ranked)} of {group}"
        candidate_nodes = chosen.nodes | frozenset(ranked[:count])
        tried.append(Candidate(label, candidate_nodes, measure(candidate_nodes, label)))
        if tolerance.allows(tried[-1].cost):
            low, best = count, tried[-1]
        else:
            high = count
    return best
