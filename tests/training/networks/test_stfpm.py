"""What STFPM's student sees of a product's colours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from training.networks.backbones import build_backbone
from training.networks.stfpm import StfpmPair, StfpmSettings


def pair(**fields: object) -> StfpmPair:
    torch.manual_seed(0)
    return StfpmPair(build_backbone("resnet18"), StfpmSettings.model_validate({"snc": "none", **fields}), None)


def seen(trained: StfpmPair, images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """What the student's first layer is given."""
    caught: list[torch.Tensor] = []
    hook = trained.student.network.register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))
    trained.student(trained.pixels(torch.from_numpy(images)), ())
    hook.remove()
    return caught[0].detach()


def bright_parts() -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(1)
    return rng.normal((220, 180, 90), (5, 3, 8), size=(70, 64, 64, 3)).clip(0, 255).astype(np.uint8)


def test_padding_is_the_products_mean_colour() -> None:
    trained = pair()
    images = bright_parts()
    trained.prepare(images)
    shown = seen(trained, images[:4])
    assert shown.mean((0, 2, 3)).abs().max() < 0.05
    torch.testing.assert_close(shown.std((0, 2, 3)), torch.ones(3), atol=0.05, rtol=0)


def test_the_papers_student_sees_imagenets_colours() -> None:
    trained = pair(student_colours="imagenet")
    images = bright_parts()
    trained.prepare(images)
    assert torch.equal(seen(trained, images[:4]), trained.pixels(torch.from_numpy(images[:4])))


@pytest.mark.parametrize("value", [0, 128])
def test_parts_of_one_colour(value: int) -> None:
    trained = pair()
    images = np.full((2, 64, 64, 3), value, np.uint8)
    trained.prepare(images)
    assert seen(trained, images).abs().max() < 1e-3
    # A grey level more is not blown up either.
    assert seen(trained, images + 1).abs().max() < 2


def test_colours_are_kept_with_the_weights() -> None:
    trained = pair()
    trained.prepare(bright_parts())
    again = pair()
    again.load_state_dict(trained.state_dict())
    assert torch.equal(again.student.mean, trained.student.mean)
    assert torch.equal(again.student.deviation, trained.student.deviation)
