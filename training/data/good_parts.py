"""The good parts: to train on, and held out to fit thresholds."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edge.bundle import file_sha256
from edge.errors import ImageError
from edge.frame import Image
from training.data.images import read_ignore_mask, read_input
from training.data.layouts import find_layout, train_images, validation_images
from training.data.settings import INPUT_SIZE_PX, DataSettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class GoodParts:
    """Good parts as the network sees them.

    Attributes:
        train: uint8 (N, 256, 256, 3) RGB, in name order; the first is the template.
        held_out: uint8 (M, 256, 256, 3) RGB, in name order; never trained on.
        train_names: N paths below the product's directory.
        held_out_names: M of them.
        skipped: name and reason of every image that was left out.
        sha256: over the names and file contents of all N + M images.
    """

    train: Image
    held_out: Image
    train_names: tuple[str, ...]
    held_out_names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    sha256: str


def load_good_parts(root: Path, settings: DataSettings, seed: int) -> GoodParts:
    """Read a product's good parts; 192 KiB of memory each. Neither test images nor masks are listed or opened.

    Args:
        root: the product's directory.
        settings: how to read them.
        seed: of the choice of held-out images, where the data has no validation images of its own.

    Raises:
        ImageError: no layout fits, fewer than two images are left to train on, or an image cannot be used and
            `settings.broken` does not allow to skip it; names the first.
    """
    layout = find_layout(root)
    paths, held_out_paths = train_images(layout), validation_images(layout)
    if not held_out_paths:
        chosen = set(choose_held_out(len(paths), settings.held_out_share, seed))
        held_out_paths = tuple(path for index, path in enumerate(paths) if index in chosen)
        paths = tuple(path for index, path in enumerate(paths) if index not in chosen)
    ignore_mask = read_ignore_mask(settings)
    broken: dict[Path, ImageError] = {}
    train, train_paths = _read(paths, settings, ignore_mask, broken)
    held_out, held_out_paths = _read(held_out_paths, settings, ignore_mask, broken)
    _report(broken, settings)
    if len(train) < 2:
        raise ImageError(
            f"'{layout.root}' has {len(train)} images of good parts to train on ({len(held_out)} held out, "
            f"{len(broken)} skipped), two are needed at least",
            "put more there",
        )
    if train.max() < 32:
        _log.warning("the brightest sample of all is %d of 255: white_level seems too high", train.max())
    names = {path: path.relative_to(layout.root).as_posix() for path in (*train_paths, *held_out_paths, *broken)}
    return GoodParts(
        train,
        held_out,
        tuple(names[path] for path in train_paths),
        tuple(names[path] for path in held_out_paths),
        tuple((names[path], error.problem) for path, error in broken.items()),
        _sha256({names[path]: path for path in (*train_paths, *held_out_paths)}),
    )


def good_parts_sha256(root: Path) -> str:
    """`GoodParts.sha256` of a product's directory from which no image is skipped, without reading one.

    Raises:
        ImageError: no layout fits, or a directory cannot be read.
    """
    layout = find_layout(root)
    paths = (*train_images(layout), *validation_images(layout))
    return _sha256({path.relative_to(layout.root).as_posix(): path for path in paths})


def choose_held_out(count: int, share: float, seed: int) -> tuple[int, ...]:
    """Which of `count` images are held out: round(share · count) of them, drawn by the seed, ascending.

    Never the first, which is the template.
    """
    chosen = min(round(share * count), max(count - 1, 0))
    drawn = np.random.default_rng(seed).choice(max(count - 1, 0), chosen, replace=False)
    return tuple(sorted(int(index) + 1 for index in drawn))


def _read(
    paths: Sequence[Path], settings: DataSettings, ignore_mask: Image | None, broken: dict[Path, ImageError]
) -> tuple[Image, tuple[Path, ...]]:
    """Network inputs of those that can be used, and which those are; the others go into `broken`."""
    images = np.empty((len(paths), *INPUT_SIZE_PX, 3), np.uint8)
    used: list[Path] = []
    for path in tqdm(paths, "images", mininterval=5, delay=5, leave=False):
        try:
            images[len(used)], _ = read_input(path, settings, ignore_mask)
            used.append(path)
        except ImageError as error:
            broken[path] = error
    return images[: len(used)], tuple(used)


def _report(broken: dict[Path, ImageError], settings: DataSettings) -> None:
    if broken and settings.broken == "refuse":
        first = next(iter(broken.values()))
        others = f" ({len(broken) - 1} more cannot be used)" if len(broken) > 1 else ""
        raise ImageError(first.problem + others, f"{first.remedy}, or set broken to 'skip'")
    for error in broken.values():
        _log.warning("skipped: %s", error)


def _sha256(files: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"{name}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()
