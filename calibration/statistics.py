"""Histograms of a network's activations over a set of images, kept on disk so that nothing is computed twice."""

from __future__ import annotations

import hashlib
import io
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from tqdm import tqdm

from calibration.histogram import BINS, Histogram
from edge.errors import ConfigError, EngineError
from edge.frame import Image
from export.probe import Probe
from training.files import whole_file

SAVE_INTERVAL_S = 30.0
_FORMAT = 1
_DIGEST_BYTES = 32
_log = logging.getLogger(__name__)


def statistics_key(model: bytes, images_sha256: str, tensors: Sequence[str]) -> str:
    """A hash that two calls of `collect` share only when they give the same histograms.

    Args:
        model: the ONNX file.
        images_sha256: hash over the images' pixels.
        tensors: their order counts.
    """
    parts = (str(_FORMAT), str(BINS), hashlib.sha256(model).hexdigest(), images_sha256, *tensors)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def collect(
    model: onnx.ModelProto, tensors: Sequence[str], images: Image, store: Path | None = None
) -> dict[str, Histogram]:
    """Run a float32 network over images one by one and count every value of the named tensors.

    Args:
        model: with the input `image`; not changed.
        tensors: float32, made by the network's nodes.
        images: uint8 (N, H, W, 3).
        store: file that keeps the histograms and how many images are in them. One whose images are all in is returned
            as it is, another goes on from there, a damaged one is ignored. It must be named by `statistics_key`: the
            file itself only tells whether it holds the same tensors.

    Raises:
        EngineError: ONNX Runtime refuses the network, or a tensor has a value that is not finite.
        ConfigError: the store cannot be read or written.
    """
    done, histograms = _load(store, tensors) if store else (0, _empty(tensors))
    if done >= len(images):
        return histograms
    probe = Probe(model, tensors)
    saved_s = time.monotonic()
    progress = tqdm(images[done:], "statistics", len(images), initial=done, unit="image", disable=None)
    for index, image in enumerate(progress, done + 1):
        _add(histograms, probe.run(image))
        if store and (index == len(images) or time.monotonic() - saved_s >= SAVE_INTERVAL_S):
            _save(store, index, histograms)
            saved_s = time.monotonic()
    return histograms


def _empty(tensors: Sequence[str]) -> dict[str, Histogram]:
    return {name: Histogram() for name in tensors}


def _add(histograms: dict[str, Histogram], found: dict[str, npt.NDArray[Any]]) -> None:
    """Count one image's values; they are gone before the next image's are there."""
    for name, values in found.items():
        try:
            histograms[name].add(values)
        except EngineError as error:
            raise EngineError(f"tensor '{name}': {error.problem}", error.remedy) from error


def _save(store: Path, images: int, histograms: dict[str, Histogram]) -> None:
    """An npz with its sha256 behind it, where a reader of npz looks for nothing."""
    content = io.BytesIO()
    np.savez(
        content,
        images=images,
        tensors=list(histograms),
        counts=[histogram.counts for histogram in histograms.values()],
        zeros=[histogram.zeros for histogram in histograms.values()],
        largest=[histogram.largest for histogram in histograms.values()],
    )
    with whole_file(store) as file:
        file.write(content.getbuffer())
        file.write(hashlib.sha256(content.getbuffer()).digest())


def _load(store: Path, tensors: Sequence[str]) -> tuple[int, dict[str, Histogram]]:
    """How many images are in, and their histograms; 0 and empty ones where there is no such file."""
    try:
        content = store.read_bytes()
    except FileNotFoundError:
        return 0, _empty(tensors)
    except OSError as error:
        raise ConfigError(f"'{store}' cannot be read ({error.strerror})", "check its permissions") from error
    if hashlib.sha256(content[:-_DIGEST_BYTES]).digest() != content[-_DIGEST_BYTES:]:
        return _ignored(store, "the file is damaged", tensors)
    with np.load(io.BytesIO(content[:-_DIGEST_BYTES])) as arrays:
        if arrays["tensors"].tolist() != list(tensors):
            return _ignored(store, "they are of other tensors", tensors)
        rows = zip(arrays["counts"], arrays["zeros"].tolist(), arrays["largest"].tolist(), strict=True)
        return int(arrays["images"]), dict(zip(tensors, (Histogram(*row) for row in rows), strict=True))


def _ignored(store: Path, reason: str, tensors: Sequence[str]) -> tuple[int, dict[str, Histogram]]:
    _log.warning("statistics in '%s' are computed again: %s", store, reason)
    return 0, _empty(tensors)
