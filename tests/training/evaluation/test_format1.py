"""A run from when TFA-Net was the only detector: the same detector as ever, and nothing to go on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edge.errors import ConfigError
from training.checkpoint import load_tensors
from training.run import NETWORK, RECORD, Run, load_run
from training.settings import TrainSettings


@pytest.fixture
def old(run: Run, tmp_path: Path) -> Path:
    path = Path(shutil.copytree(run.path, tmp_path / "old"))
    record = json.loads((path / RECORD).read_text())
    settings = record["settings"]
    new = {"detector", "network", "decay", "optimiser", "momentum"}
    record["settings"] = {name: value for name, value in settings.items() if name not in new} | settings["network"]
    (path / RECORD).write_text(json.dumps(record | {"format": 1}))
    state = load_tensors(path / NETWORK)
    (template,) = state.pop("templates").numpy()
    (path / "templates").mkdir()
    cv2.imwrite(str(path / "templates" / "00.png"), cv2.cvtColor(template, cv2.COLOR_RGB2BGR))
    torch.save({name.removeprefix("network."): value for name, value in state.items()}, path / NETWORK)
    return path


@torch.inference_mode()
def test_it_is_the_same_detector(run: Run, old: Path) -> None:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8))
    for given, expected in zip(load_run(old).detector()(image), run.detector()(image), strict=True):
        assert torch.equal(given, expected)
    assert load_run(old).record.settings == run.record.settings
    (old / "templates" / "00.png").unlink()
    with pytest.raises(ConfigError, match=r"template '.*00\.png' is missing"):
        load_run(old).detector()


def test_no_training_goes_on_with_it(old: Path, train: Callable[[str, TrainSettings], Run]) -> None:
    with pytest.raises(ConfigError, match=r"holds a run of an earlier version.*evaluated and exported only"):
        train(str(old), load_run(old).record.settings)
