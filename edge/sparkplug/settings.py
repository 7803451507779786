"""The bridge's configuration file (TOML): where stations publish, and who they are in Sparkplug."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from edge.config import TlsConfig, TopicSegment
from edge.config_file import TLS_FILES, read_toml, with_files_located
from edge.credentials import read_secret
from edge.errors import ConfigError
from edge.mqtt.tls import tls_context

# Tokens of a topic: the specification forbids + / #, and MQTT control characters.
SparkplugId = Annotated[str, Field(pattern=r"^[^+/#\x00-\x1f\x7f]{1,128}$")]


class BrokerConfig(BaseModel):
    """A broker, by MQTT 3.1.1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(default="127.0.0.1", max_length=253, pattern=r"^[\w:%\-]{1,63}(\.[\w:%\-]{1,63})*\.?$")
    port: int = Field(default=1883, ge=1, le=65535)
    tls: TlsConfig | None = Field(default=None, description="without it nothing is encrypted")
    username: str | None = None
    password_file: Path | None = Field(default=None, description="file whose first line is the password")
    keepalive_s: int = Field(default=30, ge=5, le=3600)

    def password(self) -> str | None:
        """For `username`.

        Raises:
            ConfigError: the file cannot be read.
        """
        return None if self.password_file is None else read_secret(self.password_file, "password_file")

    def tls_context(self) -> ssl.SSLContext | None:
        """What a connection needs; None for one in clear.

        Raises:
            ConfigError: certificates or keys cannot be used.
        """
        return None if self.tls is None else tls_context(self.tls)


_BrokerT = TypeVar("_BrokerT", bound=BrokerConfig)


class StationsConfig(BrokerConfig):
    """`[stations]`: the broker that stations publish to, and which of them are passed on."""

    client_id: str = Field(default="sparkplug-bridge", min_length=1, description="names the session kept at the broker")
    prefix: TopicSegment = "tfanet"
    filter: str = Field(
        default="+/+/+/+",
        pattern=r"^(\+|[A-Za-z0-9_.\-]{1,64})(/(\+|[A-Za-z0-9_.\-]{1,64})){3}$",
        description="site/area/line/station, with + for any",
    )


class SparkplugConfig(BrokerConfig):
    """`[sparkplug]`: the broker of the Sparkplug infrastructure, and this edge node's place in it."""

    group_id: SparkplugId
    edge_node_id: SparkplugId
    primary_host_id: SparkplugId | None = Field(
        default=None, description="births wait until this host application is online"
    )
    bdseq_path: Path = Field(
        default=Path("sparkplug.bdseq"), description="where the number of the last birth is kept over restarts"
    )
    late_after_s: float = Field(default=10.0, gt=0, description="an older verdict is sent as a historical one")
    reconnect_max_s: float = Field(default=10.0, gt=0)


class BridgeConfig(BaseModel):
    """`sparkplug.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stations: StationsConfig = StationsConfig()
    sparkplug: SparkplugConfig


def load_config(path: Path) -> BridgeConfig:
    """Read `sparkplug.toml`; relative paths in it are relative to the file.

    Raises:
        ConfigError: unreadable, not TOML, an unknown key, a value out of range, or certificates that cannot be used.
    """
    config = read_toml(path, BridgeConfig, "docs/sparkplug.md")
    root = path.resolve().parent
    sparkplug = config.sparkplug.model_copy(update={"bdseq_path": root / config.sparkplug.bdseq_path})
    return BridgeConfig(
        stations=_checked(config.stations, "stations", root), sparkplug=_checked(sparkplug, "sparkplug", root)
    )


def _checked(broker: _BrokerT, section: str, root: Path) -> _BrokerT:
    """The section with its files located and tried."""
    broker = with_files_located(broker, ("password_file",), root)
    if broker.tls is not None:
        broker = broker.model_copy(update={"tls": with_files_located(broker.tls, TLS_FILES, root)})
    try:
        broker.password()
        broker.tls_context()
    except ConfigError as error:
        remedy = error.remedy.replace("mqtt.tls", f"{section}.tls").replace("password_file", f"{section}.password_file")
        raise ConfigError(error.problem, remedy) from error
    return broker
