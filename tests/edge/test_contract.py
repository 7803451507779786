from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from edge.contract import asyncapi, channels, files, json_schema, main, stale
from edge.masks import decode_rle
from edge.notices import MESSAGES, SCHEMA_URIS

ROOT = Path(__file__).parents[2]


def test_the_committed_files_match_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert stale(ROOT) == []
    assert main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_a_changed_or_missing_file_is_stale(tmp_path: Path) -> None:
    assert stale(tmp_path) == list(files())
    for path, content in files().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content, encoding="utf-8")
    changed = next(iter(files()))
    (tmp_path / changed).write_text("{}", encoding="utf-8")
    assert stale(tmp_path) == [changed]


@pytest.mark.parametrize("name", MESSAGES)
def test_each_schema_is_one_and_demands_every_field(name: str) -> None:
    schema = json.loads(files()[Path("edge/schemas") / f"{name}.json"])
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == SCHEMA_URIS[name]
    assert set(schema["required"]) == set(schema["properties"])


def test_consumers_may_meet_fields_they_do_not_know(
    make_verdict: Any, validators: dict[str, Draft202012Validator]
) -> None:
    message = json.loads(make_verdict().encode())
    validators["verdict"].validate({**message, "schema_version": "1.7.0", "colour": "red"})
    assert not validators["verdict"].is_valid({**message, "schema_version": "2.0.0"})
    assert not validators["verdict"].is_valid({**message, "verdict": "MAYBE"})


def test_every_reference_of_the_asyncapi_document_resolves() -> None:
    document = asyncapi()
    references = list(_references(document))
    assert references
    for reference in references:
        file, _, pointer = reference.partition("#")
        if file:
            assert (ROOT / "docs" / file).is_file(), reference
            continue
        target: Any = document
        for key in pointer.strip("/").split("/"):
            target = target[key]
        assert target


def test_the_asyncapi_document_has_the_structure_of_version_3() -> None:
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    assert set(document["info"]) >= {"title", "version"}
    for name, channel in document["channels"].items():
        assert set(re.findall(r"{(\w+)}", channel["address"])) == set(channel["parameters"]), name
        assert all(set(parameter) <= {"description", "enum", "default"} for parameter in channel["parameters"].values())
        assert channel["messages"]
    served = set()
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        name = operation["channel"]["$ref"].removeprefix("#/channels/")
        served.add(name)
        for message in operation["messages"]:
            assert message["$ref"].startswith(f"#/channels/{name}/messages/")
        assert operation["bindings"]["mqtt"]["qos"] in (0, 1)
    assert served == set(document["channels"])
    for message in document["components"]["messages"].values():
        assert set(message) <= {"name", "title", "summary", "contentType", "payload"}


def test_the_page_for_consumers_names_every_topic_and_its_example_is_valid(
    validators: dict[str, Draft202012Validator],
) -> None:
    page = (ROOT / "docs" / "mqtt.md").read_text(encoding="utf-8")
    for channel in channels():
        assert f"`{channel.address.split('{station}/')[1]}`" in page, channel.address
    for kind in json_schema("event")["properties"]["event"]["discriminator"]["mapping"]:
        assert f"`{kind}`" in page, kind
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    verdict = json.loads(example)
    validators["verdict"].validate(verdict)
    (defect,) = verdict["defects"]
    mask = decode_rle(verdict["mask"]["counts"], tuple(verdict["mask"]["size"]))
    assert int(mask.sum()) == defect["area_px"]
    x, y, width, height = defect["bbox"]
    assert int(mask[y : y + height, x : x + width].sum()) == defect["area_px"]


def _references(node: Any) -> Any:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)
