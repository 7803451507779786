"""Marks that a camera's buffer carries until its image overwrites them: where one is left, a part never arrived.

It catches what a transport layer loses without a word. Buffers are marked while the camera waits for a trigger, so not
in free run. An image that holds the very mark at a mark's place, one in 2^64 for each, would be refused without need.
"""

from __future__ import annotations

import ctypes
import secrets
from typing import Any

import numpy as np
from genicam import gentl

from edge.frame import Image

# Every part of this size has a mark: packets of a network camera are larger, with the exception of the last one.
STEP_BYTES = 1024

_WORD_BYTES = 8
_STRIDE = STEP_BYTES // _WORD_BYTES
_MARK = np.uint64(secrets.randbits(64))


def memory_of(buffer: Any) -> Image:
    """The memory that the camera writes to, uint8 (N,), valid until the buffer is revoked.

    The binding's own `raw_buffer` is a copy of it.
    """
    address = buffer.get_info_ptr(gentl.BUFFER_INFO_CMD_LIST.BUFFER_INFO_BASE)
    return np.ctypeslib.as_array((ctypes.c_uint8 * buffer.size).from_address(address))


def write_marks(memory: Image) -> None:
    """Mark every STEP_BYTES and the end; uint8 (N,)."""
    words = _words(memory)
    words[_STRIDE - 1 :: _STRIDE] = _MARK
    words[-1:] = _MARK


def has_marks(memory: Image) -> bool:
    """Whether a part of a marked memory, uint8 (N,) from its beginning, was not overwritten."""
    words = _words(memory)
    return bool((words[_STRIDE - 1 :: _STRIDE] == _MARK).any() or (words[-1:] == _MARK).any())


def _words(memory: Image) -> Any:
    return memory[: len(memory) // _WORD_BYTES * _WORD_BYTES].view(np.uint64)
