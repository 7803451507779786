"""Runs of format 1, from when TFA-Net was the only detector, as runs of today."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from edge.errors import ConfigError
from training.networks.tfanet_detector import TfaNetSettings


def upgraded_settings(old: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a `run.json` of format 1: the detector's own become a part of their own."""
    own = {name: value for name, value in old.items() if name in TfaNetSettings.model_fields}
    return {"detector": "tfanet", "network": own} | {name: value for name, value in old.items() if name not in own}


def upgraded_state(old: Mapping[str, Tensor], directory: Path, templates: int) -> dict[str, Tensor]:
    """A network of format 1, together with its templates, which were pictures in `directory`.

    Raises:
        ConfigError: a template is missing or damaged.
    """
    images = np.empty((templates, 256, 256, 3), np.uint8)
    for index in range(templates):
        path = directory / f"{index:02d}.png"
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None or image.shape != images.shape[1:]:
            raise ConfigError(f"template '{path}' is missing or damaged", "train again")
        images[index] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return {f"network.{name}": value for name, value in old.items()} | {"templates": torch.from_numpy(images)}
