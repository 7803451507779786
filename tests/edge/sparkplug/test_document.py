"""docs/sparkplug.md says what is: its example is a configuration, and its tables name every metric."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

from edge.sparkplug.device import DATATYPES, Device
from edge.sparkplug.node import EdgeNode
from edge.sparkplug.payload import DataType, decode
from edge.sparkplug.settings import SparkplugConfig, StationsConfig, load_config

DOCUMENT = Path(__file__).parents[3] / "docs" / "sparkplug.md"
TYPES = {kind.name.lower(): kind for kind in DataType}


def tables() -> dict[str, DataType]:
    rows = re.findall(r"^\| `([^`]+)` \| (Int64|UInt64|Double|Boolean|String) \|", DOCUMENT.read_text(), re.MULTILINE)
    return {name: TYPES[kind.lower()] for name, kind in rows}


def test_every_metric_is_in_a_table() -> None:
    birth = decode(EdgeNode("g", "n", "+/+/+/+", version("tfanet-edge")).birth(0, 1).payload)
    assert tables() == {**DATATYPES, **{metric.name: metric.datatype for metric in birth.metrics}}
    assert {metric.name for metric in Device("s1", 10).birth(1)} == set(DATATYPES)


def test_the_example_is_a_configuration(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    path = tmp_path / "sparkplug.toml"
    path.write_text(example, encoding="utf-8")
    assert load_config(path).sparkplug.edge_node_id == "line 1"


def test_keys_are_described() -> None:
    text = DOCUMENT.read_text()
    for model in (StationsConfig, SparkplugConfig):
        for key in model.model_fields:
            assert re.search(rf"`(stations\.|sparkplug\.)?{key}`", text), key
