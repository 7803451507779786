"""Reads configuration files (TOML): one clear line for whatever is wrong in one; relative paths are the file's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from edge.config import FolderConfig, GenicamConfig, StationConfig
from edge.credentials import located
from edge.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the same parser under its older name
    import tomli as tomllib

TLS_FILES = ("ca_file", "cert_file", "key_file", "key_password_file")

ModelT = TypeVar("ModelT", bound=BaseModel)


def load_config(path: Path) -> StationConfig:
    """Read `station.toml`; relative paths in it are relative to the file.

    Raises:
        ConfigError: unreadable, not TOML, an unknown key, or a value out of range.
    """
    return _resolve_paths(read_toml(path, StationConfig, "systemd/station.toml"), path.resolve().parent)


def read_toml(path: Path, model: type[ModelT], documented_in: str) -> ModelT:
    """Read a file of one model.

    Args:
        path: the file.
        model: what it holds.
        documented_in: where every key is told, for a person who made a mistake.

    Raises:
        ConfigError: unreadable, not TOML, an unknown key, or a value out of range.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"configuration '{path}' cannot be read ({error})", "check the path given to --config"
        ) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"configuration '{path}' is not TOML ({error})", "mend that line") from error
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(
            f"configuration '{path}': {_first_problem(error)}", f"see {documented_in} for every key"
        ) from error


def with_files_located(section: ModelT, keys: tuple[str, ...], root: Path) -> ModelT:
    """A copy of the section whose files at these keys are found from `root`; those that are None stay so."""
    paths = {key: getattr(section, key) for key in keys}
    return section.model_copy(update={key: located(path, root) for key, path in paths.items() if path is not None})


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key '{where}'"
    value = f" (got {first['input']!r})" if first["type"] != "missing" and not isinstance(first["input"], dict) else ""
    return f"'{where}': {first['msg']}{value}"


def _resolve_paths(config: StationConfig, root: Path) -> StationConfig:
    camera = config.camera
    if isinstance(camera, FolderConfig):
        camera = camera.model_copy(update={"directory": root / camera.directory})
    elif isinstance(camera, GenicamConfig) and camera.producer is not None:
        camera = camera.model_copy(update={"producer": root / camera.producer})
    engine = config.engine
    if engine.plans is not None:
        engine = engine.model_copy(update={"plans": root / engine.plans})
    mqtt = with_files_located(config.mqtt, ("password_file",), root)
    if mqtt.tls is not None:
        mqtt = mqtt.model_copy(update={"tls": with_files_located(mqtt.tls, TLS_FILES, root)})
    return config.model_copy(
        update={
            "bundle": root / config.bundle,
            "camera": camera,
            "engine": engine,
            "mqtt": mqtt,
            "outbox": config.outbox.model_copy(update={"path": root / config.outbox.path}),
            "dashboard": with_files_located(config.dashboard, ("password_file", "cert_file", "key_file"), root),
        }
    )
