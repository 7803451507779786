"""What every message on the wire has in common: value types, the model class, and the topics.

Station states and result states carry the numbers and names of OPC 40100-1 (Machine Vision).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from edge.config import Identity

SCHEMA_VERSION = "1.0.0"
REASON_MAX_CHARS = 160

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def _one_line(text: object) -> object:
    if not isinstance(text, str):
        return text
    clean = _CONTROL.sub(" ", text.encode("utf-8", "replace").decode("utf-8")).strip()
    return clean if len(clean) <= REASON_MAX_CHARS else clean[: REASON_MAX_CHARS - 1] + "…"


def _rounded_3(value: float) -> float:
    return round(value, 3)


UtcText = Annotated[
    str,
    Field(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$",
        description="UTC, ISO 8601 with microseconds",
        json_schema_extra={"format": "date-time"},
    ),
]
Ulid = Annotated[str, Field(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$", description="ULID")]
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=64)]
Version = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=32)]
PrintableId = Annotated[
    str, Field(pattern=r"^[ !#-\[\]-~]{1,64}$", description="printable ASCII without quote and backslash")
]
Uri = Annotated[
    str,
    Field(pattern=r"^[!#-\[\]-~]{1,160}$", description="URI, or a topic relative to the station's own (`mask/…`)"),
]
Reason = Annotated[
    str, BeforeValidator(_one_line), Field(max_length=REASON_MAX_CHARS, description="for a person; cut when longer")
]
SchemaVersion = Annotated[str, Field(pattern=r"^1\.\d+\.\d+$", description="minor versions only add fields")]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Milliseconds = Annotated[float, Field(ge=0), AfterValidator(_rounded_3)]


class WireModel(BaseModel):
    """A message or a part of one: immutable, finite numbers only, no unknown fields."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )

    def encode(self) -> bytes:
        """The message as compact JSON in UTF-8; every field is there, empty ones as null."""
        return self.model_dump_json(by_alias=True).encode()


def utc_text(utc_ns: int) -> str:
    """`time.time_ns()` as ISO 8601 in UTC, cut to microseconds, with `Z`."""
    seconds, rest_ns = divmod(utc_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06d}Z"


@dataclass(frozen=True, slots=True)
class Topics:
    """Every topic of one station, under `{prefix}/v1/{site}/{area}/{line}/{station}/` (ISA-95 order)."""

    identity: Identity

    @property
    def root(self) -> str:
        """What all topics of the station begin with, without a slash at the end."""
        place = self.identity
        return f"{place.prefix}/v1/{place.site}/{place.area}/{place.line}/{place.station}"

    @property
    def status(self) -> str:
        """Retained; `offline` is the Last Will."""
        return f"{self.root}/status"

    @property
    def meta(self) -> str:
        """Retained birth certificate."""
        return f"{self.root}/meta"

    @property
    def state(self) -> str:
        """Retained OPC 40100-1 state."""
        return f"{self.root}/state"

    @property
    def verdict(self) -> str:
        """One message per trigger."""
        return f"{self.root}/verdict"

    @property
    def verdict_last(self) -> str:
        """The newest verdict, retained."""
        return f"{self.root}/verdict/last"

    @property
    def plc(self) -> str:
        """The flat record."""
        return f"{self.root}/plc"

    @property
    def event(self) -> str:
        """Audit trail."""
        return f"{self.root}/event"

    @property
    def metrics(self) -> str:
        """Figures, every minute."""
        return f"{self.root}/metrics"

    @property
    def command_result(self) -> str:
        """Answers to commands."""
        return f"{self.root}/cmd/result"

    def command(self, action: str) -> str:
        """Where `action` is asked for; `+` is every one."""
        return f"{self.root}/cmd/{action}"

    @property
    def replay_request(self) -> str:
        """Where delivered verdicts are asked for again."""
        return f"{self.root}/replay/request"

    def mask(self, result_id: str) -> str:
        """A mask that does not fit into its verdict, as raw bytes."""
        return f"{self.root}/mask/{result_id}"

    def alarm(self, code: str) -> str:
        """Retained while active; an empty payload clears it."""
        return f"{self.root}/alarm/{code}"
