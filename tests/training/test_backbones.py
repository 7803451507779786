"""The feature extractor: batch normalisation folds exactly, wrong checkpoints are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edge.errors import ConfigError
from training.networks.backbones import ResNet18, fold_batch_norm, load_backbone


@pytest.fixture
def backbone() -> ResNet18:
    torch.manual_seed(0)
    network = ResNet18()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
    return network.eval().requires_grad_(False)


def test_taps_have_the_stated_channels_and_strides(backbone: ResNet18) -> None:
    shapes = [tuple(level.shape) for level in backbone(torch.zeros(1, 3, 256, 256))]
    assert shapes == [(1, 64, 64, 64), (1, 64, 64, 64), (1, 128, 32, 32), (1, 256, 16, 16)]
    assert backbone.tap_channels == (64, 64, 128, 256)


def test_folding_keeps_every_tap(backbone: ResNet18) -> None:
    image = torch.randn(1, 3, 64, 64)
    before = backbone(image)
    fold_batch_norm(backbone)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in backbone.modules())
    for old, new in zip(before, backbone(image), strict=True):
        torch.testing.assert_close(new, old, atol=1e-4, rtol=1e-4)


def test_loads_what_it_needs_of_a_full_checkpoint(backbone: ResNet18, tmp_path: Path) -> None:
    state = {**backbone.state_dict(), "layer4.0.conv1.weight": torch.zeros(1), "fc.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "full.pth")
    loaded = load_backbone("resnet18", tmp_path / "full.pth")
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(loaded(image)[3], backbone(image)[3])


def test_refuses_missing_and_foreign_checkpoints(backbone: ResNet18, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no backbone weights"):
        load_backbone("resnet18", tmp_path / "none.pth")
    state = backbone.state_dict()
    del state["layer2.0.conv1.weight"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(ConfigError, match=r"layer2\.0\.conv1\.weight"):
        load_backbone("resnet18", tmp_path / "short.pth")
