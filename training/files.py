"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edge.errors import ConfigError


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its place when everything is in it and on the disk.

    Raises:
        ConfigError: it cannot be written; what was there before still is.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save tells of a full disk by RuntimeError
        partial.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
        raise ConfigError(
            f"'{path}' cannot be written ({reason})", "check the directory and the disk's space"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    with whole_file(path) as file:
        file.write(text.encode())


def made_directory(path: Path, remedy: str) -> Path:
    """Make a directory, if it is not there.

    Raises:
        ConfigError: it cannot be made; `remedy` says what to do then.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"directory '{path}' cannot be made ({error.strerror})", remedy) from error
    return path
