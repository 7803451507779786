"""Types of command-line arguments that several verbs take; a wrong one is named with what would be right."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def share(text: str) -> float:
    """A number from 0 to 1.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to 1")
    return number


def rate(text: str) -> float:
    """A number between 0 and 1, neither of them; errors as for `share`."""
    number = _number(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number between 0 and 1")
    return number


def whole_number_from(minimum: int) -> Callable[[str], int]:
    """The type of whole numbers that are not below a minimum."""

    def whole_number(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {minimum} upwards")
        return int(text)

    return whole_number


def _number(text: str) -> float:
    """Not a number where the text is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
