"""The number that pairs a death certificate with its birth: one more for each connection, also over restarts.

Without the file, the Last Will of an earlier process, published late, would end a session that had just begun with the
same number.
"""

from __future__ import annotations

import os
from pathlib import Path

from edge.errors import ConfigError

_NUMBERS = 256


class BirthDeathNumbers:
    """bdSeq: 0 at first, 255 is followed by 0."""

    def __init__(self, path: Path) -> None:
        """Go on after the number in the file.

        Raises:
            ConfigError: it cannot be read, or is not such a file.
        """
        self._path = path
        self._next = 0
        try:
            last = path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"'{path}' cannot be read ({error})", "check sparkplug.bdseq_path") from error
        if not last.isdecimal() or int(last) >= _NUMBERS:
            raise ConfigError(f"'{path}' holds {last[:20]!r}, not a number from 0 to 255", "remove it to begin anew")
        self._next = (int(last) + 1) % _NUMBERS

    def take(self) -> int:
        """The number of the next connection, on disk when this returns.

        Raises:
            ConfigError: the file cannot be written.
        """
        number = self._next
        beside = self._path.with_name(f"{self._path.name}.new")
        try:
            with beside.open("w", encoding="ascii") as file:
                file.write(f"{number}\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            raise ConfigError(f"'{self._path}' cannot be written ({error})", "check sparkplug.bdseq_path") from error
        self._next = (number + 1) % _NUMBERS
        return number

    def put_back(self, number: int) -> None:
        """The connection did not come as far as its CONNECT packet: the next one takes the same number."""
        self._next = number
