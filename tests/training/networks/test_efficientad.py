"""EfficientAD: the paper's sizes, its losses as they are written, and who learns from whom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edge.frame import Image
from training.networks.efficientad import EfficientAd, hard_feature_loss
from training.networks.efficientad_pdn import Autoencoder, patch_description_network
from training.networks.efficientad_settings import EfficientAdSettings, PdnSize
from training.networks.efficientad_teacher import distil, patch_descriptions, procedural_images


def small_network(channels: int) -> nn.Sequential:
    """In a patch description network's place: 4×4 pixels to one element."""
    return nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.Conv2d(16, channels, 3, padding=1))


class Coarse(nn.Module):
    """In the autoencoder's place: what is left of an image of 8×8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 384, 1)

    def forward(self, pixels: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        return nn.functional.interpolate(self.conv(nn.functional.avg_pool2d(pixels, 32)), (64, 64), mode="bilinear")


def configured(**fields: Any) -> EfficientAdSettings:
    given = {"teacher_procedural_images": 2, "teacher_steps": 3, "teacher_batch": 2, "teacher_target_px": 128}
    return EfficientAdSettings(**(given | {"penalty_images": 2} | fields))


def detector(backbone: Any, **fields: Any) -> EfficientAd:
    torch.manual_seed(0)
    made = EfficientAd(backbone, configured(**fields), None)
    made.teacher.network, made.student = small_network(384).requires_grad_(False), small_network(768)
    return made


@pytest.mark.parametrize(("size", "million"), [("small", 8), ("medium", 21)])
def test_sizes_are_the_papers(size: PdnSize, million: float) -> None:
    with torch.device("meta"):
        teacher, student = (patch_description_network(size, channels) for channels in (384, 768))
        autoencoder = Autoencoder(0.2)
        images = torch.empty(1, 3, 256, 256)
        assert teacher(images).shape == autoencoder(images).shape == (1, 384, 64, 64)
    parameters = [p for network in (teacher, student, autoencoder) for p in network.parameters()]
    assert sum(p.numel() for p in parameters) / 1e6 == pytest.approx(million, abs=0.5)


def test_a_description_sees_33_pixels() -> None:
    network = patch_description_network("small", 1)
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.01)
    image = torch.zeros(1, 3, 128, 128, requires_grad=True)
    network(image)[0, 0, 16, 16].backward()
    assert image.grad is not None
    seen = image.grad[0, 0].abs() > 0
    assert int(seen.any(0).sum()) == int(seen.any(1).sum()) == 33


def test_the_hard_feature_loss_is_the_mean_from_its_quantile_upwards() -> None:
    teacher, student = torch.randn(2, 2, 8, 10, 10, generator=torch.Generator().manual_seed(0))
    squared = (teacher - student).square()
    hard = squared >= squared.quantile(0.99)
    torch.testing.assert_close(hard_feature_loss(teacher, student, 0.99), squared[hard].mean())
    torch.testing.assert_close(hard_feature_loss(teacher, student, 0.0), squared.mean())


def test_augmentation_changes_brightness_contrast_or_saturation(tiny_backbone: Any, good_parts: Image) -> None:
    colours = torch.from_numpy(good_parts).float().permute(0, 3, 1, 2) * torch.tensor([1.0, 0.7, 0.5]).view(3, 1, 1)
    made = detector(tiny_backbone)
    changed, again = (made.augment(colours, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(changed, again)
    # Whatever it is, it is one straight line per image and pixel: no pixel moves by more than a fifth of the range.
    assert 0 < (changed - colours).abs().max() <= 0.2 * 255
    assert len({round(float(d), 3) for d in (changed - colours).abs().mean((1, 2, 3))}) == len(colours)
    torch.testing.assert_close(detector(tiny_backbone, augmentation=0).augment(colours, torch.Generator()), colours)


def test_a_teacher_learns_and_then_stays(tiny_backbone: Any, good_parts: Image) -> None:
    torch.manual_seed(0)
    teacher = small_network(384)
    assert patch_descriptions(tiny_backbone, torch.rand(2, 3, 256, 256), 128).shape == (2, 384, 64, 64)
    settings = configured(teacher_lr=1e-2)
    before = teacher[0].weight.clone()
    distil(teacher, tiny_backbone, good_parts, procedural_images(2, 0), settings)
    assert not torch.equal(teacher[0].weight, before)
    assert not any(p.requires_grad for p in teacher.parameters())
    torch.manual_seed(0)
    again = small_network(384)
    distil(again, tiny_backbone, good_parts, procedural_images(2, 0), settings)
    assert torch.equal(again[0].weight, teacher[0].weight)


def test_the_student_learns_normalised_descriptions_and_a_defect_lights_up(
    tiny_backbone: Any, good_parts: Image, defective_part: Image
) -> None:
    made = detector(tiny_backbone, snc="none", hard_share=0.9, penalty_weight=0)
    made.autoencoder = Coarse()
    made.prepare(good_parts[:2])
    optimiser = torch.optim.Adam([p for p in made.parameters() if p.requires_grad], lr=1e-2)
    images, losses = torch.from_numpy(good_parts[:1]), []
    with torch.no_grad():
        encoded = made.encode(images)
        (described,) = made.encode(torch.from_numpy(good_parts[:2]))
    torch.testing.assert_close(described.mean((0, 2, 3)), torch.zeros(384), atol=1e-3, rtol=0)
    assert described.std((0, 2, 3)).median().item() == pytest.approx(1, abs=0.01)
    for step in range(15):
        loss = made(encoded, images, torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    made.eval()
    made.calibrate(good_parts[4:6])
    with torch.inference_mode():
        for good, bad in made.maps()(torch.from_numpy(np.concatenate([good_parts[-1:], defective_part]))):
            assert bad[24:32, 32:40].mean() > good[24:32, 32:40].mean() + good[24:32, 32:40].std()


def test_gradients_reach_student_and_autoencoder_alone(tiny_backbone: Any, good_parts: Image) -> None:
    made = detector(tiny_backbone, snc="both")
    images = torch.from_numpy(good_parts[:1])
    made(made.encode(images), images, torch.Generator().manual_seed(0)).backward()
    assert all(p.grad is not None for p in (*made.student.parameters(), *made.autoencoder.parameters()))
    assert all(p.grad is None for p in (*made.teacher.parameters(), *tiny_backbone.parameters()))
    with torch.inference_mode():
        assert [m.shape for m in made.maps()(images)] == [(1, 64, 64)] * 3


@torch.no_grad()
def test_the_seed_of_a_step_decides_its_loss(tiny_backbone: Any, good_parts: Image) -> None:
    made = detector(tiny_backbone, snc="none")
    made.autoencoder = Coarse()
    images = torch.from_numpy(good_parts[:1])
    losses = [made(made.encode(images), images, torch.Generator().manual_seed(seed)).item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
