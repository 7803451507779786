"""The station's configuration file (TOML): every key, its unit and its default.

Unknown keys are refused, so a misspelt option is an error and never a silent default.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge.manifest import Precision

TopicSegment = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]{1,64}$")]
FeatureValue = bool | int | float | str
_LOOPBACK = IPv4Address("127.0.0.1")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Identity(_Section):
    """Where the station stands, in ISA-95 order; these become topic segments."""

    prefix: TopicSegment = "tfanet"
    site: TopicSegment = "site"
    area: TopicSegment = "area"
    line: TopicSegment = "line"
    station: TopicSegment = "station"


class TriggerConfig(_Section):
    """What makes the camera expose.

    `software`: the station fires every `interval_ms` (0: as fast as verdicts are collected). `line`: an input of the
    camera. `free_run`: the camera's own frame rate.
    """

    mode: Literal["software", "line", "free_run"] = "software"
    interval_ms: float = Field(default=1000.0, ge=0)
    line: str = Field(default="Line0", description="TriggerSource of the mode `line`")
    deadline_ms: float = Field(default=2000.0, gt=0, description="from trigger to verdict; later is TIMEOUT")


class DeviceConfig(_Section):
    """A camera that a grabber process opens; chosen by serial number or user id, never by its place in a list."""

    serial: str | None = None
    user_id: str | None = None
    features: dict[str, FeatureValue] = Field(
        default_factory=dict, description="GenICam features, written in this order and read back"
    )
    ring_slots: int = Field(default=4, ge=2, le=64, description="frames in the shared-memory ring")
    frame_timeout_ms: float = Field(default=1000.0, gt=0, description="from trigger to frame")
    backoff_s: float = Field(default=0.5, gt=0, le=10, description="pause before a lost camera is looked for again")
    hang_timeout_s: float = Field(
        default=5.0, ge=0.5, description="a grabber process that streams and says nothing for so long is replaced"
    )

    @model_validator(mode="after")
    def _one_selector(self) -> DeviceConfig:
        if (self.serial is None) == (self.user_id is None):
            raise ValueError("give exactly one of serial and user_id")
        return self


class GenicamConfig(DeviceConfig):
    """A camera behind a GenTL producer."""

    kind: Literal["genicam"] = "genicam"
    producer: Path | None = Field(
        default=None,
        description="GenTL producer (.cti); without it, those on GENICAM_GENTL64_PATH are searched",
    )
    chunk_data: bool = Field(
        default=False,
        description="have the camera tell exposure time, timestamp and frame id in each frame (ChunkModeActive)",
    )


class AravisConfig(DeviceConfig):
    """A GigE Vision camera without a GenTL producer; its packets' size is the feature GevSCPSPacketSize."""

    kind: Literal["aravis"]
    packet_resend: bool = Field(default=True, description="ask for lost packets, if the camera can send them again")
    packet_timeout_ms: float = Field(default=20.0, ge=1, description="an overdue packet is asked for (again) after it")
    frame_retention_ms: float = Field(
        default=100.0, ge=1, description="a frame without a packet for so long is incomplete; below frame_timeout_ms"
    )
    socket_buffer_bytes: int | None = Field(
        default=None, ge=1, description="by default a frame's size; net.core.rmem_max limits it"
    )

    @model_validator(mode="after")
    def _incomplete_in_time(self) -> AravisConfig:
        if self.frame_retention_ms >= self.frame_timeout_ms:
            raise ValueError("frame_retention_ms must be below frame_timeout_ms")
        return self


class FolderConfig(_Section):
    """A directory of images, replayed in name order and over again."""

    kind: Literal["folder"]
    directory: Path


CameraConfig = Annotated[GenicamConfig | AravisConfig | FolderConfig, Field(discriminator="kind")]


class EngineConfig(_Section):
    """How the network is computed.

    `auto` takes TensorRT where a GPU answers and has a plan of the bundle, else ONNX Runtime.
    """

    kind: Literal["auto", "onnxruntime", "tensorrt"] = "auto"
    precision: Precision = "fp32"
    slots: int = Field(default=2, ge=2, le=16, description="frames in flight between camera and judge")
    threads: int | None = Field(
        default=None,
        ge=1,
        description="cores for ONNX Runtime; by default all but one, which serves camera and network",
    )
    plans: Path | None = Field(
        default=None, description="where `tfanet-edge build` put TensorRT's plans; by default where it does by default"
    )
    transfer: Literal["auto", "pinned", "mapped", "managed"] = Field(
        default="auto", description="how frames reach the GPU; `auto` measures at the start"
    )
    keep_warm_ms: float | None = Field(
        default=None,
        gt=0,
        description="after so long without a frame the GPU computes one, so that it keeps its clocks",
    )


class JudgeConfig(_Section):
    """What an operator may set on top of the bundle's thresholds."""

    min_defect_area_px: int = Field(default=4, ge=1, description="smaller spots of the mask are dropped, in map pixels")
    dark_below: float = Field(default=2.0, ge=0, le=255, description="mean grey level under which a frame is INVALID")
    bright_above: float = Field(default=253.0, ge=0, le=255, description="mean grey level over which it is INVALID")


class TlsConfig(_Section):
    """TLS 1.2 or later to the broker. Its certificate and host name are always checked."""

    ca_file: Path | None = Field(default=None, description="authorities (PEM); by default those of the system")
    cert_file: Path | None = Field(default=None, description="client certificate (PEM), for brokers that ask for one")
    key_file: Path | None = Field(default=None, description="its key (PEM)")
    key_password_file: Path | None = Field(default=None, description="file whose first line opens the key")

    @model_validator(mode="after")
    def _certificate_with_key(self) -> TlsConfig:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("give both cert_file and key_file, or neither")
        if self.key_password_file is not None and self.key_file is None:
            raise ValueError("key_password_file needs key_file")
        return self


class MqttConfig(_Section):
    """The broker; protocol 3.1.1 is enough, 5 adds properties."""

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=1883, ge=1, le=65535)
    protocol: Literal["3.1.1", "5"] = "3.1.1"
    tls: TlsConfig | None = Field(default=None, description="without it nothing is encrypted")
    username: str | None = None
    password_file: Path | None = Field(default=None, description="file whose first line is the password")
    keepalive_s: int = Field(default=30, ge=5, le=3600)
    max_message_bytes: int = Field(
        default=1_000_000, ge=4096, description="larger messages are never handed to the broker"
    )
    max_inflight: int = Field(default=20, ge=1, le=1000, description="published and not yet acknowledged")
    reconnect_max_s: float = Field(default=10.0, gt=0)
    publish_last: bool = Field(default=True, description="also keep the newest verdict retained on verdict/last")
    publish_plc: bool = Field(default=False, description="also publish the flat `plc` record")
    accept_commands: bool = Field(default=False, description="answer what comes on cmd/+; see edge/commands.py")


class OutboxConfig(_Section):
    """Where verdicts wait for their acknowledgement."""

    path: Path = Path("outbox.sqlite")
    max_rows: int = Field(default=100_000, ge=100, description="beyond it masks are dropped, then the oldest verdicts")
    max_bytes: int = Field(default=1_000_000_000, ge=1_000_000, description="the same for the sum of their sizes")
    backlog_per_s: float = Field(default=1500.0, ge=1, description="messages of a backlog and of replays per second")
    delivered_rows: int = Field(default=10_000, ge=1, description="verdicts kept after delivery, for replays")


class DashboardConfig(_Section):
    """The operator's page; reachable from other machines only with passwords."""

    enabled: bool = True
    host: IPv4Address = Field(default=_LOOPBACK, description="address to listen on; 0.0.0.0 is every one")
    port: int = Field(default=8080, ge=0, le=65535, description="0 takes a free one")
    password_file: Path | None = Field(default=None, description="made by `python -m edge.dashboard.passwords`")
    cert_file: Path | None = Field(default=None, description="certificate (PEM); with it the page is HTTPS")
    key_file: Path | None = Field(default=None, description="its key (PEM)")

    @model_validator(mode="after")
    def _passwords_beyond_this_machine(self) -> DashboardConfig:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("give both cert_file and key_file, or neither")
        if not self.host.is_loopback and self.password_file is None:
            raise ValueError(f"host {self.host} can be reached from other machines, so password_file is needed")
        return self


class StationConfig(_Section):
    """`station.toml`."""

    bundle: Path
    identity: Identity = Identity()
    camera: CameraConfig
    trigger: TriggerConfig = TriggerConfig()
    engine: EngineConfig = EngineConfig()
    judge: JudgeConfig = JudgeConfig()
    mqtt: MqttConfig = MqttConfig()
    outbox: OutboxConfig = OutboxConfig()
    dashboard: DashboardConfig = DashboardConfig()

    @model_validator(mode="after")
    def _frames_enough(self) -> StationConfig:
        # A frame stays in the ring until the engine is done with it; one more is being filled meanwhile.
        if isinstance(self.camera, DeviceConfig) and self.camera.ring_slots <= self.engine.slots:
            raise ValueError(f"camera.ring_slots must be above engine.slots, which is {self.engine.slots}")
        return self
