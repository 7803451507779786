"""Both students of a backbone's layers: who learns, what lights up, and that ONNX says the same."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from edge.frame import Image
from export.to_onnx import OPSET, _without_chatter
from training.networks.fcl import FclSettings
from training.networks.fcl_pyramid import Levels, PyramidPair
from training.networks.reverse_distillation import ReverseDistillationSettings, ReverseStudent, reverse_distillation
from training.networks.stfpm import StfpmSettings

ALLOWED_OPS = {
    *("Add", "AveragePool", "Cast", "Clip", "Concat", "Conv", "Div", "Exp", "Gather", "Min", "Mul", "Pow"),
    *("ReduceSum", "Reshape", "Resize", "Shape", "Slice", "Softmax", "Sqrt", "Sub", "Transpose", "Unsqueeze"),
}


class OneLevel(nn.Module):
    """One level that has to be resized: all that there is of SNC, in a third of the exporter's time."""

    tap_channels = (8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 8, 8)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        level = self.conv(x)
        return level, level


class Imitator(nn.Module):
    """A student that looks at the image."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor, _teacher: Levels) -> Levels:
        return self.network(pixels)[1:]


def pair(backbone: Any, base: str, snc: str) -> PyramidPair:
    torch.manual_seed(1)
    if base == "reverse":
        return reverse_distillation(backbone, ReverseDistillationSettings(snc=snc, blocks=1), None)
    student = Imitator(type(backbone)())
    return PyramidPair(backbone, student, StfpmSettings(snc=snc), "product", None)


def trained(detector: PyramidPair, images: Image, steps: int) -> list[float]:
    optimiser = torch.optim.Adam([p for p in detector.parameters() if p.requires_grad], lr=5e-3)
    batch, losses = torch.from_numpy(images), []
    with torch.no_grad():
        encoded = detector.encode(batch)
    for _ in range(steps):
        loss = detector(encoded, batch, torch.Generator())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("snc", ["none", "both"])
@pytest.mark.parametrize("base", ["stfpm", "reverse"])
def test_the_student_alone_learns_and_a_defect_lights_up(
    base: str, snc: str, tiny_backbone: Any, good_parts: Image, defective_part: Image
) -> None:
    detector = pair(tiny_backbone, base, snc)
    before = {name: value.clone() for name, value in tiny_backbone.state_dict().items()}
    for module in detector.student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5  # so few steps would leave its statistics behind
    losses = trained(detector, good_parts[:3], 20)
    assert losses[-1] < 0.75 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in tiny_backbone.state_dict().items())
    assert all(p.grad is not None for p in detector.student.parameters())
    detector.eval()
    if detector.needs_held_out:
        detector.calibrate(good_parts[4:7])
    with torch.no_grad():
        for good, bad in detector.maps()(torch.from_numpy(np.concatenate([good_parts[-1:], defective_part]))):
            assert bad[24:32, 32:40].mean() > good[24:32, 32:40].mean() + good[24:32, 32:40].std()


@torch.no_grad()
def test_two_images_at_once_are_the_same_as_one_by_one(tiny_backbone: Any, good_parts: Image) -> None:
    for base in ("stfpm", "reverse"):
        maps = pair(tiny_backbone, base, "both").maps()
        both = maps(torch.from_numpy(good_parts[:2]))
        single = [maps(torch.from_numpy(good_parts[i : i + 1])) for i in range(2)]
        for together, apart in zip(both, zip(*single, strict=True), strict=True):
            torch.testing.assert_close(together, torch.cat(apart), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("snc", ["relation", "context"])
def test_onnx_says_the_same_in_operators_of_opset_17(snc: Any, good_parts: Image) -> None:
    torch.manual_seed(0)
    detector = PyramidPair(OneLevel(), Imitator(OneLevel()), StfpmSettings(snc=snc), "product", None).eval()
    detector.calibrate(good_parts[4:7])
    maps = detector.maps().requires_grad_(False)
    with _without_chatter(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            maps,
            (torch.from_numpy(good_parts[:2]),),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    onnx.checker.check_model(model)
    assert {node.op_type for node in model.graph.node} <= ALLOWED_OPS
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        with torch.no_grad():
            expected = maps(torch.from_numpy(good_parts[:count]))
        found = session.run(None, {session.get_inputs()[0].name: good_parts[:count]})
        for given, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(given, wanted.numpy(), rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_with_held_out_parts_nothing_is_random(tiny_backbone: Any, good_parts: Image) -> None:
    detector = pair(tiny_backbone, "stfpm", "both").eval()
    images = torch.from_numpy(good_parts[:2])
    with torch.inference_mode():
        encoded = detector.encode(images)
        assert detector(encoded, images, None) == detector(encoded, images, None)


def test_a_student_without_neighbourhoods_needs_no_held_out_parts(tiny_backbone: Any) -> None:
    assert pair(tiny_backbone, "stfpm", "relation").needs_held_out
    assert not pair(tiny_backbone, "stfpm", "none").needs_held_out


def test_the_settings_of_every_base_are_the_same_but_for_its_own() -> None:
    fields = {name: set(kind.model_fields) - set(FclSettings.model_fields) for name, kind in BASES.items()}
    assert fields == {
        "stfpm": {"level_fusion", "student_colours"},
        "reverse": {"level_fusion", "blocks", "embedding_ratio"},
    }


BASES = {"stfpm": StfpmSettings, "reverse": ReverseDistillationSettings}


def test_the_students_of_a_resnet18_predict_its_layers() -> None:
    channels = (64, 128, 256)
    with torch.device("meta"):
        teacher = tuple(torch.empty(2, c, s, s) for c, s in zip(channels, (64, 32, 16), strict=True))
        student = ReverseStudent(channels, ReverseDistillationSettings())
        rebuilt = student(torch.empty(2, 3, 256, 256), teacher)
        embedded = student.embed(torch.cat([n(x) for n, x in zip(student.narrow, teacher, strict=True)], dim=1))
    assert [level.shape for level in rebuilt] == [level.shape for level in teacher]
    assert embedded.shape == (2, 512, 8, 8)
