"""Pre-training on procedural images, and what it must never see."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch

from training.networks.backbones import build_backbone
from training.pretrain import PretrainSettings, pretrain
from training.procedural import SHAPES, draw, texture_bank
from training.rendered import mixed_kinds


def test_pretraining_steps_and_repeats() -> None:
    settings = PretrainSettings(steps=2, batch=2, image_size_px=64)
    first, second = (pretrain(settings, workers=0).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    torch.manual_seed(settings.seed)
    assert not torch.equal(
        first["layer3.1.conv2.weight"], build_backbone("resnet18").state_dict()["layer3.1.conv2.weight"]
    )


def test_procedural_images_are_labelled_and_repeat() -> None:
    bank = texture_bank(0)
    for seed in range(10):
        sample, again = draw(seed, bank, 96), draw(seed, bank, 96)
        np.testing.assert_array_equal(sample.image, again.image)
        assert sample.image.shape == (96, 96, 3)
        assert sample.texture.max() < len(bank)
        assert sample.shape.max() < len(SHAPES)
        assert sample.shape.any()


def test_mixed_kinds_keeps_the_share() -> None:
    kinds = mixed_kinds(100, 0.25, seed=0)
    assert sum(kind is not None for kind in kinds) == 25
    assert {kinds.count(kind) for kind in set(kinds) - {None}} == {5}


def test_importing_the_workshop_opens_no_connection_and_pretraining_never_sees_the_product() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('a connection was opened')\n"
        "socket.socket.connect = refuse\n"
        "import training.pretrain\n"
        "assert not any(name.startswith('simulator') for name in sys.modules)\n"
        "import training.command, export.demo_bundle\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
