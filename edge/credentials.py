"""Secrets come from files, never from the configuration itself, and never reach a log, a message or an error."""

from __future__ import annotations

import os
from pathlib import Path

from edge.errors import ConfigError

_CREDENTIALS = "$CREDENTIALS_DIRECTORY"
_MAX_BYTES = 4096


def located(path: Path, root: Path) -> Path:
    """Where a file of the configuration lies: relative to `root`, or among systemd's credentials.

    Args:
        path: `$CREDENTIALS_DIRECTORY/NAME` is what the unit's `LoadCredential=NAME:…` provides.
        root: directory of the configuration file.

    Raises:
        ConfigError: systemd gave no credentials.
    """
    if path.parts[:1] != (_CREDENTIALS,):
        return root / path
    directory = os.environ.get(_CREDENTIALS[1:])
    if not directory:
        raise ConfigError(
            f"'{path}' needs systemd's credentials, and there are none",
            "add LoadCredential= to the unit, or give a path",
        )
    return Path(directory, *path.parts[1:])


def read_secret(path: Path, key: str) -> str:
    """The first line of a file.

    Args:
        path: the file.
        key: of the configuration, for the error.

    Raises:
        ConfigError: it cannot be read, is empty, or too large to be a secret; the content is never part of the error.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"secret '{path}' cannot be read ({error.strerror})", f"check {key}") from error
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"secret '{path}' has more than {_MAX_BYTES} bytes", f"check {key}")
    # Not left to raise: the decoder's error would carry the content.
    secret = content.decode("utf-8", "replace").split("\n", 1)[0].rstrip("\r")
    if "\N{REPLACEMENT CHARACTER}" in secret:
        raise ConfigError(f"secret '{path}' is not UTF-8", f"check {key}")
    if not secret:
        raise ConfigError(f"secret '{path}' is empty", f"its first line is the secret; check {key}")
    return secret
