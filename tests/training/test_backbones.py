"""The feature extractors: shapes, torchvision's keys, folding, and what real weights say about the wiring."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training.networks.backbones import (
    ARCHITECTURES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    BackboneName,
    build_backbone,
    fold_batch_norm,
    load_backbone,
    weights_source,
)

SHARED = Path(__file__).parents[3] / "shared"
RESNET18_WEIGHTS = SHARED / "weights" / "resnet18_imagenet_no_layer4.pth"
RESNET50V2_WEIGHTS = SHARED / "weights" / "resnet50v2_imagenet_stage1-3.pth"
NAMES = get_args(BackboneName)
WIDE = (64, 256, 512, 1024)

# depths, width and output channels of layer 1, convolutions of a block: (kernel, has the stride) each
BASIC, BOTTLENECK = ((3, True), (3, False)), ((1, False), (3, True), (1, False))
RESNETS = {
    "resnet18": ((2, 2, 2, 2), 64, 64, BASIC),
    "resnet34": ((3, 4, 6, 3), 64, 64, BASIC),
    "resnet50": ((3, 4, 6, 3), 64, 256, BOTTLENECK),
    "wide_resnet50_2": ((3, 4, 6, 3), 128, 256, BOTTLENECK),
}
VGG16_CONVOLUTIONS = {
    0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256),
    17: (512, 256), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512),
}  # fmt: skip
# Parameters of the full networks, as torchvision's model pages tell them.
PUBLISHED_PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "wide_resnet50_2": 68_883_240,
    "vgg16": 138_357_544,
}


def norm_shapes(key: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{key}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def torchvision_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the full official checkpoint, written down apart from the networks."""
    if name == "vgg16":
        shapes: dict[str, tuple[int, ...]] = {}
        for index, (out, inner) in VGG16_CONVOLUTIONS.items():
            shapes |= {f"features.{index}.weight": (out, inner, 3, 3), f"features.{index}.bias": (out,)}
        for index, (out, inner) in {0: (4096, 25088), 3: (4096, 4096), 6: (1000, 4096)}.items():
            shapes |= {f"classifier.{index}.weight": (out, inner), f"classifier.{index}.bias": (out,)}
        return shapes
    depths, width, channels, convolutions = RESNETS[name]
    shapes = {"conv1.weight": (64, 3, 7, 7), **norm_shapes("bn1", 64)}
    inner = 64
    for layer, depth in enumerate(depths):
        out = channels << layer
        for block in range(depth):
            key, before = f"layer{layer + 1}.{block}", inner
            for number, (kernel, _) in enumerate(convolutions, 1):
                after = out if number == len(convolutions) else width << layer
                shapes[f"{key}.conv{number}.weight"] = (after, before, kernel, kernel)
                shapes |= norm_shapes(f"{key}.bn{number}", after)
                before = after
            if block == 0 and (layer > 0 or inner != out):
                shapes[f"{key}.downsample.0.weight"] = (out, inner, 1, 1)
                shapes |= norm_shapes(f"{key}.downsample.1", out)
            inner = out
    return {**shapes, "fc.weight": (1000, inner), "fc.bias": (1000,)}


def randomise(backbone: nn.Module) -> None:
    """Statistics that tell every batch normalisation from an identity."""
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)


@pytest.mark.parametrize(
    ("name", "channels", "strides"),
    [
        ("resnet18", (64, 64, 128, 256), (4, 4, 8, 16)),
        ("resnet34", (64, 64, 128, 256), (4, 4, 8, 16)),
        ("resnet50", WIDE, (4, 4, 8, 16)),
        ("resnet50v2", WIDE, (4, 4, 8, 16)),
        ("wide_resnet50_2", WIDE, (4, 4, 8, 16)),
        ("vgg16", (64, 128, 256, 512), (1, 2, 4, 8)),
    ],
)
def test_taps_have_the_stated_channels_and_strides(
    name: BackboneName, channels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    backbone = build_backbone(name).eval()
    with torch.no_grad():
        taps = backbone(torch.zeros(1, 3, 64, 32))
    assert [tuple(tap.shape) for tap in taps] == [
        (1, c, 64 // s, 32 // s) for c, s in zip(channels, strides, strict=True)
    ]
    assert backbone.tap_channels == channels


def test_every_name_has_an_architecture() -> None:
    assert tuple(ARCHITECTURES) == NAMES


@pytest.mark.parametrize("name", sorted(PUBLISHED_PARAMETERS))
def test_the_official_checkpoint_agrees_in_every_key_and_shape(name: BackboneName, tmp_path: Path) -> None:
    shapes = torchvision_shapes(name)
    assert sum(np.prod(shape) for key, shape in shapes.items() if "running" not in key) == PUBLISHED_PARAMETERS[name]
    # One stored number per tensor: the file stays small and every tensor can be told from every other.
    state = {key: torch.tensor(float(i + 1)).expand(shape) for i, (key, shape) in enumerate(shapes.items())}
    torch.save(state, tmp_path / "official.pth")
    backbone = load_backbone(name, tmp_path / "official.pth")
    loaded = {key: value for key, value in backbone.state_dict().items() if "num_batches" not in key}
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())
    unused = set(state) - set(loaded)
    assert {key.split(".")[0] for key in unused} <= {"layer4", "fc", "classifier", "features"}
    assert not backbone.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize("name", ["resnet50", "resnet50v2", "wide_resnet50_2"])
def test_the_second_convolution_of_a_bottleneck_has_the_stride(name: BackboneName) -> None:
    block = build_backbone(name).layer2[0]
    assert [conv.stride[0] for conv in (block.conv1, block.conv2, block.conv3)] == [1, 2, 1]


@pytest.mark.parametrize(("name", "left"), [*((name, 0) for name in (*RESNETS, "vgg16")), ("resnet50v2", 15)])
def test_folding_keeps_every_tap(name: BackboneName, left: int) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name).eval().requires_grad_(False)
    randomise(backbone)
    image = torch.randn(1, 3, 32, 32)
    before = backbone(image)
    fold_batch_norm(backbone)
    # The v2 network normalises its input, each of its 13 units' inputs and its output ahead of other operations.
    assert sum(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()) == left
    for old, new in zip(before, backbone(image), strict=True):
        torch.testing.assert_close(new, old, atol=1e-4, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    """A good part of each product, normalised, (N, 3, 256, 256)."""
    folders = sorted((SHARED / "data").glob("**/train/good"))
    if not folders:
        pytest.skip("no photographs beside the repository")
    files = [file for folder in folders for file in sorted(folder.iterdir())[:1]]
    images = [cv2.resize(cv2.imread(str(file)), (256, 256), interpolation=cv2.INTER_AREA) for file in files]
    pixels = torch.from_numpy(np.stack(images)[..., ::-1].copy()).permute(0, 3, 1, 2) / 255
    return (pixels - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)


@pytest.mark.skipif(not RESNET50V2_WEIGHTS.is_file(), reason="no ResNet-50 v2 weights beside the repository")
def test_resnet50v2_sees_photographs_as_in_its_training(photographs: Tensor) -> None:
    """Every batch normalisation remembers the channel means that it met; a wrongly wired network meets others."""
    backbone = load_backbone("resnet50v2", RESNET50V2_WEIGHTS)
    norms = [backbone.layer2[0].bn1, backbone.layer3[0].bn1, backbone.post3]
    met: dict[nn.Module, Tensor] = {}
    for norm in norms:
        norm.register_forward_pre_hook(lambda module, inputs: met.update({module: inputs[0].mean((0, 2, 3))}))
    taps = backbone(photographs)
    assert all((tap >= 0).all() for tap in taps)
    for norm in norms:
        assert torch.corrcoef(torch.stack([met[norm], norm.running_mean]))[0, 1] > 0.8


@pytest.mark.skipif(not RESNET18_WEIGHTS.is_file(), reason="no ResNet-18 weights beside the repository")
def test_resnet18_with_norms_already_folded_gives_living_features(photographs: Tensor) -> None:
    backbone = load_backbone("resnet18", RESNET18_WEIGHTS)
    before = backbone(photographs)
    for tap in before:
        assert tap.isfinite().all()
        assert 0.3 < (tap > 0).float().mean() < 0.9
        assert (tap.std((0, 2, 3)) > 1e-3).float().mean() > 0.8
    fold_batch_norm(backbone)
    for old, new in zip(before, backbone(photographs), strict=True):
        torch.testing.assert_close(new, old, atol=1e-4, rtol=1e-4)
    source = weights_source("resnet18", RESNET18_WEIGHTS)
    assert source.startswith("resnet18_imagenet_no_layer4.pth sha256 3f3a2923179d")
