"""Reading a decoded JSON object field by field: each is what it should be, or MessageError says which is not.

A check takes a value and the path it stands at, and returns the value with its type.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TypeVar

from edge.errors import MessageError

T = TypeVar("T")
Check = Callable[[object, str], T]

INT64_MAX = 2**63 - 1
_SHOWN_CHARS = 40


class Fields:
    """The fields of one object. What nobody asks for is ignored: minor versions add some."""

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise wrong(value, path, "an object")
        self._value = value
        self._path = path

    def take(self, name: str, check: Check[T]) -> T:
        """The field's value.

        Raises:
            MessageError: it is not there, or not what it should be.
        """
        path = f"{self._path}.{name}" if self._path else name
        if name not in self._value:
            raise MessageError(f"the message has no {path}")
        return check(self._value[name], path)

    def maybe(self, name: str, check: Check[T]) -> T | None:
        """The field's value; None for null.

        Raises:
            MessageError: it is not there, or not what it should be.
        """
        return self.take(name, lambda value, path: None if value is None else check(value, path))


def wrong(value: object, path: str, wanted: str) -> MessageError:
    """The error for a value that is not what it should be."""
    shown = ascii(value) if not isinstance(value, (dict, list)) else type(value).__name__
    shown = shown if len(shown) <= _SHOWN_CHARS else f"{shown[:_SHOWN_CHARS]}…"
    return MessageError(f"{path or 'the message'} is {shown}, not {wanted}")


def flag(value: object, path: str) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise wrong(value, path, "true or false")
    return value


def integer(low: int = 0, high: int = INT64_MAX) -> Check[int]:
    """A whole number, both limits included."""

    def check(value: object, path: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise wrong(value, path, f"a whole number from {low} to {high}")
        return value

    return check


def number(low: float = -math.inf, high: float = math.inf) -> Check[float]:
    """A finite number, both limits included."""

    def check(value: object, path: str) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise wrong(value, path, "a number")
        try:
            found = float(value)
        except OverflowError:
            found = math.nan
        if not (math.isfinite(found) and low <= found <= high):
            raise wrong(value, path, f"a finite number from {low} to {high}")
        return found

    return check


def text(pattern: str, wanted: str) -> Check[str]:
    """A string that matches the whole pattern and can be written as UTF-8."""
    compiled = re.compile(pattern)

    def check(value: object, path: str) -> str:
        if not isinstance(value, str) or compiled.fullmatch(value) is None:
            raise wrong(value, path, wanted)
        try:
            value.encode()
        except UnicodeEncodeError as error:  # a lone surrogate
            raise wrong(value, path, wanted) from error
        return value

    return check


def line(max_chars: int) -> Check[str]:
    """Text without control characters."""
    return text(rf"[^\x00-\x1f\x7f]{{0,{max_chars}}}", f"one line of at most {max_chars} characters")


def utc(value: object, path: str) -> datetime:
    """`2025-11-22T05:01:35.204817Z` as an aware datetime."""
    found = _UTC(value, path)
    try:
        return datetime.fromisoformat(found[:-1]).replace(tzinfo=timezone.utc)
    except ValueError as error:
        raise wrong(value, path, "a point in time") from error


def array(check: Check[T], length: int | None = None) -> Check[tuple[T, ...]]:
    """A list whose items all pass; of exactly `length` items when that is given."""

    def check_all(value: object, path: str) -> tuple[T, ...]:
        if not isinstance(value, list) or length not in (None, len(value)):
            raise wrong(value, path, "a list" if length is None else f"a list of {length}")
        return tuple(check(item, f"{path}[{index}]") for index, item in enumerate(value))

    return check_all


ulid = text(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", "a ULID")
sha256 = text(r"[0-9a-f]{64}", "a SHA-256 in hexadecimal")
_UTC = text(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z", "UTC with microseconds")
