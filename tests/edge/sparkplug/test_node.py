"""Names and aliases of several stations; what the node itself reports."""

from __future__ import annotations

import pytest

from edge.sparkplug.node import EdgeNode
from edge.sparkplug.payload import decode

NOW_MS = 1_763_787_695_000


@pytest.mark.parametrize(
    ("station_filter", "names"),
    [
        ("+/+/+/+", {"plant:paint:l1:s1", "plant:paint:l2:s1"}),
        ("plant/paint/+/s1", {"l1", "l2"}),
        ("plant/+/+/+", {"paint:l1:s1", "paint:l2:s1"}),
    ],
)
def test_stations_have_names_and_aliases_of_their_own(station_filter: str, names: set[str]) -> None:
    node = EdgeNode("plant", "line 1", station_filter, "0.1.0")
    first, second = (node.device(f"plant/paint/{line}/s1") for line in ("l1", "l2"))
    assert node.device("plant/paint/l1/s1") is first
    assert {first.device_id, second.device_id} == names
    births = [node.birth(0, NOW_MS), node.device_birth(first, NOW_MS), node.device_birth(second, NOW_MS)]
    aliases = [m.alias for birth in births for m in decode(birth.payload).metrics if m.alias is not None]
    assert len(set(aliases)) == len(aliases)


def test_one_station_goes_by_its_name() -> None:
    assert EdgeNode("plant", "line 1", "plant/paint/l1/s1", "0.1.0").device("plant/paint/l1/s1").device_id == "s1"


def test_missing_verdicts_stay_counted_over_births() -> None:
    node = EdgeNode("plant", "line 1", "+/+/+/+", "0.1.0")
    node.birth(0, NOW_MS)
    (data,) = decode(node.count_missing(3, NOW_MS + 1).payload).metrics
    first = decode(node.birth(1, NOW_MS + 2).payload).metrics[0]
    assert (data.value, data.alias) == (first.value, first.alias) == (3, 3)
    assert first.timestamp_ms == NOW_MS + 1
