"""MFRNet as a whole: it learns good parts and finds what they lack, and its exported graph says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from export.to_onnx import write_onnx
from training.networks import mfrnet
from training.networks.anomaly_map import smoothing_matrix
from training.networks.backbones import build_backbone
from training.networks.detector import Detector
from training.networks.mfrnet import MfrNet, MfrNetSettings, fuse
from training.networks.mfrnet_network import Preset

MINI = Preset(dims=(8, 8, 16), depths=(1, 1, 1), up_depths=(1, 1), head_dim=8, ffn_ratio=2)
SETTINGS = MfrNetSettings()
DEFECT = (slice(96, 120), slice(136, 160))
CHANNELS = 24


class Taps(nn.Module):
    """A backbone of two layers: what is tested is not the features."""

    tap_channels = (8, 16)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 4, 3)
        self.conv2 = nn.Conv2d(8, 16, 3, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        fine = self.conv1(x).relu()
        return fine, self.conv2(fine).relu()


def stripes(count: int) -> np.ndarray:
    """Good parts: the same grating, a little noise; uint8 (count, 256, 256, 3)."""
    wave = 127 + 60 * np.sin(np.arange(256) / 5)[:, None, None] + np.array([0, 20, 40])
    noise = np.random.default_rng(0).normal(0, 4, (count, 256, 256, 3))
    return np.clip(wave + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return stripes(3)


@pytest.fixture(scope="module")
def losses() -> list[float]:
    return []


@pytest.fixture(scope="module")
def trained(images: np.ndarray, losses: list[float]) -> MfrNet:
    """Twenty-five steps on two parts."""
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mfrnet, "PRESETS", {"tiny": MINI})
        network = MfrNet(Taps().eval(), SETTINGS, None)
    network.prepare(images[:2])
    batch = torch.from_numpy(images[:2])
    with torch.no_grad():
        encoded = network.encode(batch)
        losses.append(float(network(encoded, batch, None)))
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(25):
        optimiser.zero_grad()
        network(encoded, batch, generator).backward()
        optimiser.step()
    with torch.no_grad():
        losses.append(float(network(encoded, batch, None)))
    return network.eval()


def test_features_are_standardised(trained: MfrNet, images: np.ndarray) -> None:
    (features,) = trained.encode(torch.from_numpy(images[:2]))
    assert features.shape == (2, CHANNELS, 64, 64)
    torch.testing.assert_close(features.mean((0, 2, 3)), torch.zeros(CHANNELS), atol=1e-3, rtol=0)
    deviation = features.std((0, 2, 3))
    assert ((deviation - 1).abs() < 1e-2).float().mean() > 0.9
    assert deviation.max() < 1.01


def test_a_few_steps_lower_the_loss_and_leave_the_backbone(trained: MfrNet, losses: list[float]) -> None:
    before, after = losses
    assert after < 0.8 * before
    assert all(parameter.grad is None for parameter in trained.backbone.parameters())


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["product", "error", "structure"])
def test_a_defect_lights_up_where_it_is(trained: MfrNet, images: np.ndarray, fusion: str) -> None:
    part = images[2:].copy()
    part[0][DEFECT] = (200, 30, 30)
    maps = trained.maps()(torch.from_numpy(np.concatenate([images[2:], part])))
    good, defective = fuse(maps, torch.from_numpy(smoothing_matrix()), fusion)
    assert defective.shape == (256, 256)
    assert good.min() > -1e-5
    hottest = np.unravel_index(int(defective.argmax()), defective.shape)
    assert all(place.start <= at < place.stop for place, at in zip(DEFECT, hottest, strict=True))
    assert defective.max() > 1.05 * good.max()


@torch.no_grad()
def test_vgg16_gives_the_papers_features() -> None:
    """Of relu1_2 at 256×256 to relu4_3 at 32×32, one grid."""
    network = MfrNet(build_backbone("vgg16").eval(), MfrNetSettings(backbone="vgg16"), None)
    (features,) = network.encode(torch.zeros(1, 256, 256, 3, dtype=torch.uint8))
    assert features.shape == (1, 64 + 128 + 256 + 512, 64, 64)


def test_the_state_dict_is_all_that_a_run_has_to_keep(trained: MfrNet, images: np.ndarray) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mfrnet, "PRESETS", {"tiny": MINI})
        again = MfrNet(trained.backbone, SETTINGS.model_copy(update={"inference_seed": 7}), None).eval()
    again.load_state_dict(trained.state_dict())
    image = torch.from_numpy(images[:1])
    for old, new in zip(trained.maps()(image), again.maps()(image), strict=True):
        assert torch.equal(old, new)


def test_the_generator_alone_decides_the_masks(trained: MfrNet, images: np.ndarray) -> None:
    batch = torch.from_numpy(images[:1])
    with torch.no_grad():
        encoded = trained.encode(batch)
        first, second, other = (
            float(trained(encoded, batch, torch.Generator().manual_seed(seed))) for seed in (1, 1, 2)
        )
    assert first == second != other


@torch.no_grad()
def test_onnx_runtime_gives_the_same_for_any_batch(trained: MfrNet, images: np.ndarray, tmp_path: Path) -> None:
    graph = Detector(trained.maps(), fuse, "std", "product").eval()
    write_onnx(graph, tmp_path / "model.onnx")
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    anomaly_map, score = graph(torch.from_numpy(images[:3]))
    for part in (slice(0, 1), slice(1, 3)):
        maps, scores = session.run(None, {"image": images[part]})
        np.testing.assert_allclose(maps, anomaly_map[part], atol=1e-4 * float(anomaly_map.max()))
        np.testing.assert_allclose(scores, score[part], rtol=1e-4)


def test_mixed_precision_trains_too(trained: MfrNet, images: np.ndarray) -> None:
    batch = torch.from_numpy(images[:1])
    with torch.no_grad():
        encoded: tuple[Tensor] = trained.encode(batch)
        exact = trained(encoded, batch, None)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = trained(encoded, batch, None)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("similarity_window", 10, "similarity_window 10 is even"),
        ("largest_cell", 6, "largest_cell 6 is no power of two"),
        ("subsets", 3, "Extra inputs are not permitted"),
    ],
)
def test_impossible_settings_are_refused(field: str, value: int, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        MfrNetSettings.model_validate({field: value})
