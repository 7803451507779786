"""What the station says beside verdicts: status, birth certificate, state, alarms, figures, PLC record."""

from __future__ import annotations

from enum import Enum
from typing import Literal

from pydantic import Field, model_validator

from edge.events import Event
from edge.manifest import Sha256
from edge.messages import Model, Outcome, Recipe, Station, Verdict
from edge.wire import SCHEMA_VERSION, Count, PrintableId, Reason, SchemaVersion, Text, Ulid, UtcText, Version, WireModel

PLC_MAX_BYTES = 256


class StateName(str, Enum):
    """States of the OPC 40100-1 vision state machine."""

    PREOPERATIONAL = "Preoperational"
    HALTED = "Halted"
    ERROR = "Error"
    INITIALIZED = "Initialized"
    READY = "Ready"
    SINGLE_EXECUTION = "SingleExecution"
    CONTINUOUS_EXECUTION = "ContinuousExecution"


class Status(WireModel):
    """Retained on `status`: whether the station is there; `offline` is the Last Will."""

    schema_uri: Literal["urn:tfanet-edge:status:1"] = Field(default="urn:tfanet-edge:status:1", alias="schema")
    schema_version: SchemaVersion = SCHEMA_VERSION
    status: Literal["online", "stopped", "offline"]
    boot_id: Ulid
    version: Version = Field(description="of the station's software")
    since: UtcText | None = Field(description="null in the Last Will: only the broker knows when")


class CameraIdentity(WireModel):
    """Which camera."""

    vendor: Text
    model: Text
    serial: Text


class MetaThreshold(WireModel):
    """A limit and what it was calibrated on."""

    image: float
    pixel: float
    calibrated_fpr: float = Field(ge=0, le=1)
    n: Count = Field(description="good images it was fitted on")


class Meta(WireModel):
    """Retained on `meta`: the birth certificate; everything that stays the same until the next start."""

    schema_uri: Literal["urn:tfanet-edge:meta:1"] = Field(default="urn:tfanet-edge:meta:1", alias="schema")
    schema_version: SchemaVersion = SCHEMA_VERSION
    boot_id: Ulid
    ts: UtcText
    version: Version = Field(description="of the station's software")
    station: Station
    recipe: Recipe
    model: Model
    bundle_sha256: Sha256 = Field(description="of the bundle's manifest, which holds the sha256 of every file")
    threshold: MetaThreshold
    camera: CameraIdentity
    schemas: dict[str, str] = Field(
        default_factory=lambda: dict(SCHEMA_URIS), description="topic below the station's own, and its schema"
    )


class State(WireModel):
    """Retained on `state`."""

    schema_uri: Literal["urn:tfanet-edge:state:1"] = Field(default="urn:tfanet-edge:state:1", alias="schema")
    schema_version: SchemaVersion = SCHEMA_VERSION
    boot_id: Ulid
    ts: UtcText
    state: StateName
    reason: Reason


class Alarm(WireModel):
    """Retained on `alarm/{code}` while it is active."""

    schema_uri: Literal["urn:tfanet-edge:alarm:1"] = Field(default="urn:tfanet-edge:alarm:1", alias="schema")
    schema_version: SchemaVersion = SCHEMA_VERSION
    boot_id: Ulid
    ts: UtcText
    code: Text
    reason: Reason


class Metrics(WireModel):
    """On `metrics`: figures since the start, names ending in their unit."""

    schema_uri: Literal["urn:tfanet-edge:metrics:1"] = Field(default="urn:tfanet-edge:metrics:1", alias="schema")
    schema_version: SchemaVersion = SCHEMA_VERSION
    boot_id: Ulid
    ts: UtcText
    values: dict[str, float]


class Command(WireModel):
    """On `cmd/{action}`: asks the station for something. Unlike what it publishes, unknown fields are refused."""

    schema_uri: Literal["urn:tfanet-edge:command:1"] = Field(default="urn:tfanet-edge:command:1", alias="schema")
    command_id: PrintableId = Field(description="chosen by the sender, a new one for each command")
    ts: UtcText = Field(description="when it was made; refused when it is far from the station's clock")


class CommandResult(WireModel):
    """On `cmd/result`: what became of a command."""

    schema_uri: Literal["urn:tfanet-edge:command_result:1"] = Field(
        default="urn:tfanet-edge:command_result:1", alias="schema"
    )
    schema_version: SchemaVersion = SCHEMA_VERSION
    boot_id: Ulid
    ts: UtcText
    command_id: PrintableId | None = Field(description="as in the command; null when it could not be read")
    action: Reason = Field(description="last level of the command's topic")
    result: Literal["done", "refused"]
    reason: Reason | None = Field(description="why it was refused")
    values: dict[str, float | Reason] = Field(description="what was asked for; names of figures end in their unit")


class ReplayRequest(WireModel):
    """On `replay/request`: asks for delivered verdicts of one boot again; unknown fields are refused."""

    boot_id: Ulid
    from_seq: Count
    to_seq: Count = Field(description="included; at most 9,999 after from_seq")

    @model_validator(mode="after")
    def _forwards(self) -> ReplayRequest:
        if self.to_seq < self.from_seq:
            raise ValueError("to_seq is before from_seq")
        return self


class PlcRecord(WireModel):
    """On `plc`: the verdict, flat and at most 256 bytes."""

    id: Ulid = Field(description="result_id")
    n: Count = Field(description="seq")
    v: Outcome = Field(description="verdict")
    s: float | None = Field(description="score of the image; null when nothing was computed")
    t: UtcText = Field(description="ts")
    part: PrintableId | None = Field(description="part_id")


MESSAGES: dict[str, type[WireModel]] = {
    "verdict": Verdict,
    "status": Status,
    "meta": Meta,
    "state": State,
    "plc": PlcRecord,
    "alarm": Alarm,
    "event": Event,
    "metrics": Metrics,
    "command_result": CommandResult,
}
REQUESTS: dict[str, type[WireModel]] = {"command": Command, "replay_request": ReplayRequest}
SCHEMA_URIS: dict[str, str] = {name: f"urn:tfanet-edge:{name}:1" for name in MESSAGES}


def plc_record(verdict: Verdict) -> PlcRecord:
    """The verdict's flat record."""
    return PlcRecord(
        id=verdict.result_id,
        n=verdict.seq,
        v=verdict.verdict,
        s=None if verdict.score is None else verdict.score.image,
        t=verdict.ts,
        part=verdict.part.part_id,
    )
