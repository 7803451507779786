"""What is folded away at inference changes nothing: folded against the detector computed step by step."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from edge.frame import Image
from export.graph import detector_graph
from export.to_onnx import write_onnx
from training.networks.detector import Detector
from training.networks.features import patchify
from training.networks.resnet import ResNet
from training.networks.tfanet import Preset, TFANet
from training.networks.unfolded import UnfoldedDetector

MINI = Preset(48, 3, 3, 32, 2, 2)
TOLERANCE = 1e-5


def both(templates: int) -> tuple[UnfoldedDetector, Detector]:
    """The same random parameters step by step and folded."""
    torch.manual_seed(templates)
    backbone = ResNet().eval().requires_grad_(False)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):  # a fresh one is nearly the identity
            for values, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.2, 0.8),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
            ):
                assert values is not None
                values.uniform_(low, high)
    network = TFANet(sum(backbone.tap_channels), MINI, templates).eval().requires_grad_(False)
    network.feature_scale.uniform_(0.5, 2)
    network.head.weight.mul_(10)  # so that the reconstruction is of the features' size
    images = random_images(templates, seed=1)
    folded = detector_graph(deepcopy(backbone), network, images, "std", "product", half_weights=False)
    return UnfoldedDetector(backbone, network, images), folded


def random_images(count: int, seed: int) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (count, 256, 256, 3), dtype=np.uint8)


def assert_close(given: torch.Tensor, expected: torch.Tensor) -> None:
    """Within 1e-5 of the largest value expected anywhere."""
    torch.testing.assert_close(given, expected, rtol=0, atol=TOLERANCE * float(expected.abs().max()))


@pytest.mark.parametrize("templates", [0, 1, 3])
@torch.no_grad()
def test_folded_detector_equals_the_one_computed_step_by_step(templates: int) -> None:
    unfolded, folded = both(templates)
    batch = torch.from_numpy(random_images(2, seed=2))
    features, reconstruction = (patchify(of) for of in unfolded.maps(batch))
    folded_features, folded_reconstruction = folded.small_maps.cells(batch)
    assert min(features.std(), reconstruction.std()) > 0.5, "near zero any absolute tolerance would do"
    assert_close(folded_features, features)
    torch.testing.assert_close(folded_reconstruction, reconstruction, rtol=0, atol=TOLERANCE)
    for output, expected in zip(folded(batch), unfolded(batch), strict=True):
        assert_close(output, expected)


@torch.no_grad()
def test_exported_detector_equals_the_one_computed_step_by_step(tmp_path: Path) -> None:
    unfolded, folded = both(1)
    images = random_images(2, seed=2)
    write_onnx(folded, tmp_path / "model.onnx")
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"image": images})
    for output, expected in zip(outputs, unfolded(torch.from_numpy(images)), strict=True):
        assert_close(torch.from_numpy(output), expected)


@torch.no_grad()
def test_the_template_reaches_the_result() -> None:
    unfolded, _ = both(1)
    image = torch.from_numpy(random_images(1, seed=2))
    _, reconstruction = unfolded.maps(image)
    unfolded.templates = 255 - unfolded.templates
    assert (unfolded.maps(image)[1] - reconstruction).abs().max() > 100 * TOLERANCE
