"""Which triggers are open, written where the end of the process cannot take it.

One small file beside the outbox, changed in place and never synced: what it says outlives a process that is killed or
crashes, not a power cut. The next boot answers what it finds open (edge.recovery).
"""

from __future__ import annotations

import logging
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from edge.errors import OutboxError
from edge.triggers import Trigger

OPEN_AT_MOST = 4096

_MAGIC = b"tfaopen1"
_HEADER = struct.Struct("<8s26sxxxxxxq")  # boot_id, verdicts of the boot
_SLOT = struct.Struct("<qq")  # trigger_id + 1, 0 for a free slot; fired_utc_ns
_BYTES = _HEADER.size + OPEN_AT_MOST * _SLOT.size

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenTrigger:
    """A trigger that had no verdict when its process ended."""

    trigger_id: int
    fired_utc_ns: int


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What an earlier boot left.

    Attributes:
        boot_id: of that boot.
        verdicts: it had made durable, at least.
        triggers: open, in the order they were fired; a verdict of theirs may be durable all the same.
    """

    boot_id: str
    verdicts: int
    triggers: tuple[OpenTrigger, ...]


class TriggerJournal:
    """The file, open. For one thread."""

    def __init__(self, path: Path) -> None:
        """Open or create it; nothing in it changes before `begin`.

        Args:
            path: the file; whoever opens it holds the outbox beside it, so no other process has it.

        Raises:
            OutboxError: it cannot be opened or there is no room for it.
        """
        self._path = path
        self._slots: dict[int, int] = {}
        self._free = list(range(OPEN_AT_MOST))
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.posix_fallocate(self._descriptor, 0, _BYTES)  # now, so that no later write needs room
            content = os.pread(self._descriptor, _BYTES, 0)
        except OSError as error:
            raise self._failed("opened", error) from error
        self._unfinished = _parsed(content)

    @property
    def unfinished(self) -> Unfinished | None:
        """What was found open when the file was opened."""
        return self._unfinished

    def begin(self, boot_id: str) -> None:
        """Forget what was found; from now on the file is about this boot.

        Raises:
            OutboxError: it cannot be written; so do `remember` and `forget`.
        """
        # A kill in between leaves fewer open triggers of the old boot, all of which are answered.
        self._write(bytes(OPEN_AT_MOST * _SLOT.size), _HEADER.size)
        self._write(_HEADER.pack(_MAGIC, boot_id.encode(), 0), 0)

    def remember(self, trigger: Trigger) -> None:
        """Write a trigger down, before anything is done for it; one beyond OPEN_AT_MOST open ones is not."""
        if self._free:
            slot = self._slots[trigger.trigger_id] = self._free.pop()
            self._write(_SLOT.pack(trigger.trigger_id + 1, trigger.fired_utc_ns), _place_of(slot))

    def forget(self, trigger: Trigger, verdicts: int) -> None:
        """The trigger's verdict is durable, `verdicts` of this boot are."""
        self._write(struct.pack("<q", verdicts), _HEADER.size - 8)
        slot = self._slots.pop(trigger.trigger_id, None)
        if slot is not None:
            self._free.append(slot)
            self._write(bytes(_SLOT.size), _place_of(slot))

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _write(self, content: bytes, place: int) -> None:
        try:
            os.pwrite(self._descriptor, content, place)
        except OSError as error:
            raise self._failed("written", error) from error

    def _failed(self, done: str, error: OSError) -> OutboxError:
        return OutboxError(
            f"trigger journal '{self._path}' cannot be {done} ({error.strerror})",
            "check that its directory exists, is writable and has room",
        )


def _place_of(slot: int) -> int:
    return _HEADER.size + slot * _SLOT.size


def _parsed(content: bytes) -> Unfinished | None:
    magic, boot_id, verdicts = _HEADER.unpack_from(content)
    if magic != _MAGIC:
        if any(content):
            _log.error("the trigger journal is damaged; triggers left open by an earlier boot get no verdict")
        return None
    found = [OpenTrigger(number - 1, at) for number, at in _SLOT.iter_unpack(content[_HEADER.size :]) if number > 0]
    found.sort(key=lambda trigger: trigger.trigger_id)
    return Unfinished(boot_id.decode("ascii", "replace"), verdicts, tuple(found)) if found else None
