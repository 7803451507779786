"""A run trained for one epoch, and the bundle that the command makes of it; made once, for reading only."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

ROI_XYWH = (8, 4, 104, 88)
IGNORED_FROM_X_PX = 86
WHITE_LEVEL = 200.0


class Exported(NamedTuple):
    """A bundle, and what the command printed when it made it."""

    path: Path
    out: str
    err: str


@pytest.fixture
def export(verb: Callable[..., int]) -> Callable[..., int]:
    """Run the verb; returns its exit status."""
    return partial(verb, "export")


@pytest.fixture(scope="session")
def run_dir(
    product: Path, backbone_weights: Path, verb: Callable[..., int], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Two of eight good parts are held out; a region of interest, an ignored edge and another white."""
    out = tmp_path_factory.mktemp("runs") / "run"
    mask = np.zeros((96, 120), np.uint8)
    mask[:, IGNORED_FROM_X_PX:] = 255
    assert cv2.imwrite(str(out.with_name("ignore.png")), mask)
    where = ["--data", product, "--weights", backbone_weights, "--out", out, "--device", "cpu"]
    size = ["--preset", "tiny", "--epochs", 1, "--batch", 6, "--precision", "float32", "--held-out-share", 0.25]
    seen = ["--roi-xywh", *ROI_XYWH, "--ignore-mask", out.with_name("ignore.png"), "--white-level", WHITE_LEVEL]
    assert verb("train", *where, *size, *seen) == 0
    return out


@pytest.fixture(scope="session")
def exported(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """By a process of its own, where nothing catches what libraries print."""
    out = tmp_path_factory.mktemp("bundles") / "washer"
    command = [sys.executable, "-m", "edge.cli", "export", str(run_dir), "--out", str(out)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return Exported(out, process.stdout, process.stderr)
