"""The contract as files: a JSON Schema (draft 2020-12) per message in edge/schemas, and docs/asyncapi.json.

python -m edge.contract           write them
python -m edge.contract --check   exit status 1 when they do not match the models
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge.config import Identity
from edge.notices import MESSAGES, REQUESTS, SCHEMA_URIS
from edge.wire import SCHEMA_VERSION, Topics

_ROOT = Path(__file__).parent.parent
_SCHEMAS = Path("edge/schemas")
_ASYNCAPI = Path("docs/asyncapi.json")
_LEVELS = {
    "prefix": "set per installation; tfanet by default",
    "site": "ISA-95 site",
    "area": "ISA-95 area",
    "line": "ISA-95 line",
    "station": "the station on its line",
    "result_id": "result_id of the verdict",
    "code": "which alarm",
    "action": "what is asked for",
}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Channel:
    """One topic: its message, QoS and retain flag; the station sends on it unless it receives."""

    name: str
    address: str
    message: str
    qos: int
    retain: bool
    summary: str
    action: Literal["send", "receive"] = "send"


def channels() -> list[Channel]:
    """Every topic the station publishes or listens on, with placeholders for the levels."""
    topics = Topics(
        Identity.model_construct(prefix="{prefix}", site="{site}", area="{area}", line="{line}", station="{station}")
    )
    return [
        Channel("status", topics.status, "status", 1, True, "whether the station is there; offline is the Last Will"),
        Channel("meta", topics.meta, "meta", 1, True, "birth certificate"),
        Channel("state", topics.state, "state", 1, True, "OPC 40100-1 state and reason"),
        Channel("verdict", topics.verdict, "verdict", 1, False, "one per trigger, at most 4096 bytes"),
        Channel("verdictLast", topics.verdict_last, "verdict", 1, True, "the newest verdict, for late joiners"),
        Channel("plc", topics.plc, "plc", 1, False, "flat record of the verdict, at most 256 bytes"),
        Channel("mask", topics.mask("{result_id}"), "mask", 1, False, "a mask that does not fit inline, raw bytes"),
        Channel("alarm", topics.alarm("{code}"), "alarm", 1, True, "retained while active; empty payload clears"),
        Channel("event", topics.event, "event", 1, False, "audit trail, one message per event"),
        Channel("metrics", topics.metrics, "metrics", 0, False, "figures"),
        Channel("commandResult", topics.command_result, "command_result", 1, False, "what became of a command"),
        Channel("replayRequest", topics.replay_request, "replay_request", 1, False, "verdicts again", "receive"),
        Channel("command", topics.command("{action}"), "command", 1, False, "see mqtt.md for actions", "receive"),
    ]


def json_schema(name: str) -> Json:
    """JSON Schema of one message as it is emitted.

    Further properties are allowed: minor versions add some, and consumers ignore what they do not know.
    """
    schema = MESSAGES[name].model_json_schema(by_alias=True, mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_URIS[name],
        **_open_to_additions(schema),
    }


def request_schema(name: str) -> Json:
    """JSON Schema of a message that the station takes; what is not in it is refused."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:tfanet-edge:{name}:1",
        **REQUESTS[name].model_json_schema(by_alias=True, mode="validation"),
    }


def asyncapi() -> Json:
    """The AsyncAPI 3.0 document; payload schemas are referred to as files."""
    listed = channels()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "tfanet-edge inspection station",
            "version": SCHEMA_VERSION,
            "description": "What a station publishes over MQTT 3.1.1 or 5. See mqtt.md for the rules of delivery.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {channel.name: _channel(channel) for channel in listed},
        "operations": {
            f"{channel.action}{channel.name[0].upper()}{channel.name[1:]}": _operation(channel) for channel in listed
        },
        "components": {"messages": {name: _message(name) for name in (*MESSAGES, *REQUESTS, "mask")}},
    }


def files() -> dict[Path, str]:
    """Every generated file, relative to the project, and its content."""
    documents = {_SCHEMAS / f"{name}.json": json_schema(name) for name in MESSAGES}
    documents |= {_SCHEMAS / f"{name}.json": request_schema(name) for name in REQUESTS} | {_ASYNCAPI: asyncapi()}
    return {path: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for path, document in documents.items()}


def stale(root: Path) -> list[Path]:
    """Generated files under `root` that are missing or do not match the models."""
    return [
        path
        for path, content in files().items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != content
    ]


def _open_to_additions(node: Any) -> Any:
    if isinstance(node, list):
        return [_open_to_additions(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _open_to_additions(value)
        for key, value in node.items()
        if not (key == "additionalProperties" and value is False)
    }


def _channel(channel: Channel) -> Json:
    levels = [level for level in _LEVELS if f"{{{level}}}" in channel.address]
    return {
        "address": channel.address,
        "summary": channel.summary,
        "parameters": {level: {"description": _LEVELS[level]} for level in levels},
        "messages": {channel.message: {"$ref": f"#/components/messages/{channel.message}"}},
    }


def _operation(channel: Channel) -> Json:
    return {
        "action": channel.action,
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "summary": channel.summary,
        "messages": [{"$ref": f"#/channels/{channel.name}/messages/{channel.message}"}],
        "bindings": {"mqtt": {"qos": channel.qos, "retain": channel.retain, "bindingVersion": "0.2.0"}},
    }


def _message(name: str) -> Json:
    if name == "mask":
        return {"name": name, "contentType": "application/octet-stream", "summary": "COCO run lengths, or a 1-bit PNG"}
    return {
        "name": name,
        "title": (MESSAGES | REQUESTS)[name].__name__,
        "contentType": "application/json",
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": f"../edge/schemas/{name}.json"},
        },
    }


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` name those that are stale. Returns the exit status."""
    if arguments == ["--check"]:
        for path in (old := stale(_ROOT)):
            print(f"{path} does not match the models; run: python -m edge.contract")
        return 1 if old else 0
    if arguments:
        print("usage: python -m edge.contract [--check]", file=sys.stderr)
        return 2
    for path, content in files().items():
        (_ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (_ROOT / path).write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
