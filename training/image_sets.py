"""Sets of images as arrays: a hash that tells one from another, and some of them, evenly spaced."""

from __future__ import annotations

import hashlib

import numpy as np

from edge.frame import Image


def images_sha256(images: Image) -> str:
    """Hash over the pixels of a set of images."""
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()


def evenly(length: int, count: int) -> list[int]:
    """At most `count` of the indices below `length`, evenly spaced, beginning with 0."""
    count = min(count, length)
    return [index * length // count for index in range(count)]
