"""Where a product's images lie, found without opening one.

mvtec   train/good, validation/good (optional), test/<defect or good> and ground_truth/<defect> with one mask per image,
        <stem>_mask.png or <stem>.png, or, as in MVTec LOCO AD, several in a directory <stem>.
        P. Bergmann et al., "MVTec AD", CVPR 2019; "Beyond Dents and Scratches", IJCV 130, 2022.
visa    Data/Images and Data/Masks as published, split by ../split_csv/1cls.csv.
        Y. Zou et al., "SPot-the-Difference", ECCV 2022.
folder  a directory of good parts, nothing to test with.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.cameras.folder import SUFFIXES
from edge.errors import ImageError

_VISA_COLUMNS = frozenset({"object", "split", "label", "image", "mask"})


@dataclass(frozen=True)
class Layout:
    """One product's directory, absolute, and how it is arranged."""

    name: Literal["mvtec", "visa", "folder"]
    root: Path
    product: str


@dataclass(frozen=True)
class LabelledImage:
    """A test image.

    Attributes:
        path: the image.
        defect: None for a good part.
        mask_paths: the defect is where any of them is not 0; empty for a good part, and where no mask was drawn.
    """

    path: Path
    defect: str | None
    mask_paths: tuple[Path, ...]


def find_layout(root: Path) -> Layout:
    """Recognise a product's directory.

    Raises:
        ImageError: no layout fits, or a VisA product lacks its split.
    """
    root = Path(os.path.abspath(root))
    if (root / "train" / "good").is_dir():
        return Layout("mvtec", root, root.name)
    if (root / "Data" / "Images").is_dir():
        if not _split_csv(root).is_file():
            raise ImageError(f"'{root}' is a VisA product without '{_split_csv(root)}'", "put VisA's split_csv there")
        return Layout("visa", root, root.name)
    if _images_in(root):
        return Layout("folder", root, root.name)
    raise ImageError(
        f"'{root}' is no product: no train/good (MVTec AD), no Data/Images (VisA), no image in the directory itself",
        "give the directory of one product",
    )


def train_images(layout: Layout) -> tuple[Path, ...]:
    """The good parts to train on, in name order; neither test images nor masks are listed on the way.

    Raises:
        ImageError: a directory or the split cannot be read.
    """
    if layout.name == "visa":
        return tuple(sample.path for sample in _visa(layout, "train"))
    return _images_in(layout.root / "train" / "good" if layout.name == "mvtec" else layout.root)


def validation_images(layout: Layout) -> tuple[Path, ...]:
    """The good parts set apart by the data itself, in name order; empty where there are none.

    Raises:
        ImageError: the directory cannot be read.
    """
    directory = layout.root / "validation" / "good"
    return _images_in(directory) if layout.name == "mvtec" and directory.is_dir() else ()


def labelled_images(layout: Layout) -> tuple[LabelledImage, ...]:
    """The test images, in the order of their paths; empty where there are none.

    Raises:
        ImageError: a directory or the split cannot be read.
    """
    if layout.name == "visa":
        return _visa(layout, "test")
    if layout.name == "folder":
        return ()
    samples: list[LabelledImage] = []
    for directory in _directories_in(layout.root / "test"):
        defect = None if directory.name == "good" else directory.name
        masks = _masks_by_stem(layout.root / "ground_truth" / defect) if defect else {}
        samples += [LabelledImage(path, defect, masks.get(path.stem, ())) for path in _images_in(directory)]
    return tuple(samples)


def _masks_by_stem(directory: Path) -> Mapping[str, tuple[Path, ...]]:
    if not directory.is_dir():
        return {}
    masks = {path.stem.removesuffix("_mask"): (path,) for path in _images_in(directory)}
    return masks | {below.name: _images_in(below) for below in _directories_in(directory)}


def _visa(layout: Layout, split: str) -> tuple[LabelledImage, ...]:
    path = _split_csv(layout.root)
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream, restval="")
            if not _VISA_COLUMNS.issubset(table.fieldnames or ()):
                raise ImageError(f"'{path}' lacks a column of {sorted(_VISA_COLUMNS)}", "use VisA's own 1cls.csv")
            rows = [row for row in table if row["object"] == layout.product]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImageError(f"'{path}' cannot be read ({error})", "use VisA's own 1cls.csv") from error
    if not rows:
        raise ImageError(f"'{path}' has no object '{layout.product}'", "name the directory as the object is named")
    samples = [_visa_sample(layout, row) for row in rows if row["split"] == split]
    if split == "train" and (defective := [sample.path for sample in samples if sample.defect]):
        raise ImageError(f"'{path}' trains on the defective '{defective[0]}'", "use VisA's own 1cls.csv")
    return tuple(sorted(samples, key=lambda sample: sample.path))


def _visa_sample(layout: Layout, row: Mapping[str, str]) -> LabelledImage:
    data = layout.root.parent
    path = data / row["image"]
    if not path.is_relative_to(layout.root):
        raise ImageError(f"'{_split_csv(layout.root)}' puts '{path}' outside the product", "use VisA's own 1cls.csv")
    defect = None if row["label"] == "normal" else row["label"]
    return LabelledImage(path, defect, (data / row["mask"],) if row["mask"] else ())


def _split_csv(root: Path) -> Path:
    return root.parent / "split_csv" / "1cls.csv"


def _directories_in(directory: Path) -> list[Path]:
    return [path for path in _entries(directory) if path.is_dir()] if directory.is_dir() else []


def _images_in(directory: Path) -> tuple[Path, ...]:
    return tuple(path for path in _entries(directory) if path.suffix.lower() in SUFFIXES and path.is_file())


def _entries(directory: Path) -> list[Path]:
    """Sorted; without hidden files, such as those that macOS leaves beside images."""
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ImageError(f"directory '{directory}' cannot be read ({error})", "check the path") from error
