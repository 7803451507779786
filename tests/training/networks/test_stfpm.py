"""What STFPM's student sees of an image's colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from training.networks.backbones import build_backbone
from training.networks.stfpm import StfpmSettings, standardised, stfpm


@pytest.fixture
def pixels() -> Tensor:
    rng = np.random.default_rng(1)
    values = rng.normal((1.5, -0.2, 0.4), (0.1, 0.05, 0.5), size=(2, 64, 64, 3))
    return torch.from_numpy(values.astype(np.float32)).permute(0, 3, 1, 2)


def test_padding_is_an_images_own_mean(pixels: Tensor) -> None:
    seen = standardised(pixels)
    torch.testing.assert_close(seen.mean((2, 3)), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.std((2, 3), correction=0), torch.ones(2, 3), atol=1e-4, rtol=0)


def test_brighter_light_is_nothing_new_to_the_student(pixels: Tensor) -> None:
    torch.manual_seed(0)
    pair = stfpm(build_backbone("resnet18"), StfpmSettings(snc="none"), None).eval()
    brighter = 1.2 * pixels + 0.3
    with torch.no_grad():
        for level, of_brighter in zip(pair.student(pixels, ()), pair.student(brighter, ()), strict=True):
            torch.testing.assert_close(of_brighter, level, rtol=1e-3, atol=1e-3)


def test_the_papers_student_sees_what_its_teacher_sees(pixels: Tensor) -> None:
    torch.manual_seed(0)
    pair = stfpm(build_backbone("resnet18"), StfpmSettings(snc="none", student_colours="imagenet"), None).eval()
    with torch.no_grad():
        levels = pair.student.network(pixels)[1:]
        assert all(torch.equal(*both) for both in zip(pair.student(pixels, ()), levels, strict=True))


def test_one_colour_alone_is_not_blown_up() -> None:
    flat = torch.full((1, 3, 64, 64), 2.0)
    assert standardised(flat).abs().max() < 1e-3
    grey_level = 1 / 255 / 0.225
    speck = flat.clone()
    speck[..., :32] += grey_level
    assert standardised(speck).abs().max() <= 1


def test_half_precision_has_no_sum_that_is_too_large(pixels: Tensor) -> None:
    large = pixels.repeat(1, 1, 4, 4)
    torch.testing.assert_close(standardised(large.half()).float(), standardised(large), rtol=0.02, atol=0.05)
