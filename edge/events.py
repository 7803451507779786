"""What is worth keeping of a station's life besides its verdicts: a closed set of facts, and the message they go in.

No fact holds a password, or what somebody typed where a name belongs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from edge.manifest import Sha256
from edge.messages import Model, Recipe
from edge.wire import SCHEMA_VERSION, Count, PrintableId, Reason, SchemaVersion, Text, Ulid, UtcText, WireModel


class Thresholds(WireModel):
    """From `image` upwards a part is NG, from `pixel` upwards a pixel is defective; smaller spots do not count."""

    image: float
    pixel: float
    min_defect_area_px: Count


class BundleLoaded(WireModel):
    """The station starts with this bundle."""

    kind: Literal["bundle_loaded"] = "bundle_loaded"
    bundle_sha256: Sha256 = Field(description="of the bundle's manifest, which holds the sha256 of every file")
    recipe: Recipe
    model: Model
    thresholds: Thresholds


class ThresholdChanged(WireModel):
    """This boot judges by other thresholds than the one before it."""

    kind: Literal["threshold_changed"] = "threshold_changed"
    before: Thresholds
    now: Thresholds


class GoldenTest(WireModel):
    """Whether the engine computes on this device what the bundle says; one that does not ends the station."""

    kind: Literal["golden_test"] = "golden_test"
    passed: bool
    vectors: Count | None = Field(default=None, description="compared; null, and so are the errors, when not passed")
    map_error: float | None = Field(default=None, ge=0, description="largest, as a share of the map's maximum")
    score_error: float | None = Field(default=None, ge=0, description="largest, as a share of the score")
    problem: Reason | None = Field(default=None, description="null when passed")


class CameraConnected(WireModel):
    """Frames come from this camera, for the first time or again."""

    kind: Literal["camera_connected"] = "camera_connected"
    vendor: Reason
    model: Reason
    serial: Reason


UserActionKind = Literal["login", "logout", "counters_reset"]


class UserAction(WireModel):
    """Somebody logged in to the page, logged out, or set its counters to zero."""

    kind: UserActionKind
    user: Text
    role: Literal["viewer", "operator"]
    address: Reason = Field(description="where the request came from")


class LoginRefused(WireModel):
    """A login that failed; who it claimed to be is not told, for people type passwords there."""

    kind: Literal["login_refused"] = "login_refused"
    address: Reason = Field(description="where the request came from")
    reason: Reason


class CommandAnswered(WireModel):
    """A command that came on `cmd/{action}`."""

    kind: Literal["command"] = "command"
    action: Reason
    command_id: PrintableId | None = Field(description="null when it could not be read")
    result: Literal["done", "refused"]
    reason: Reason | None = Field(description="why it was refused")


class OutboxSalvaged(WireModel):
    """The outbox's file was damaged and mended."""

    kind: Literal["outbox_salvaged"] = "outbox_salvaged"
    problem: Reason
    saved: Count = Field(description="messages that wait again")
    missing: Count = Field(description="verdicts that should be there and are not")


Fact = (
    BundleLoaded
    | ThresholdChanged
    | GoldenTest
    | CameraConnected
    | UserAction
    | LoginRefused
    | CommandAnswered
    | OutboxSalvaged
)
Record = Callable[[Fact], None]
"""Takes a fact, from any thread, and returns at once."""


def unrecorded(_: Fact) -> None:
    """A Record that keeps nothing."""


class Event(WireModel):
    """On `event`: the audit trail."""

    schema_uri: Literal["urn:tfanet-edge:event:1"] = Field(default="urn:tfanet-edge:event:1", alias="schema")
    schema_version: SchemaVersion = SCHEMA_VERSION
    boot_id: Ulid
    seq: Count = Field(description="counts events of one boot without a gap, apart from verdicts")
    ts: UtcText
    count: int = Field(ge=1, lt=2**63, description="of the kind since the one before; `event` is the last of them")
    event: Annotated[Fact, Field(discriminator="kind")]
