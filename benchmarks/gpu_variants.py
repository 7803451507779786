"""The detector in each form that is timed on a GPU, from an image in host memory to map and score in host memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measure import both_detectors, interleaved_ms, random_image, relative_difference
from torch import Tensor, nn

from training.networks.anomaly_map import anomaly_map, score_map
from training.networks.backbones import Backbone
from training.networks.detector import Detector
from training.networks.tfanet import PresetName

RELEASE = "release-style, eager float32"
FOLDED = "folded, eager float32"
Run = Callable[[], tuple[Tensor, Tensor]]


class InType(nn.Module):
    """A folded detector whose networks compute in one type; normalisation, map and score stay in float32.

    Nothing is copied from the host while it runs, so that it can be captured as a CUDA graph.
    """

    def __init__(self, preset: PresetName, backbone: Backbone, dtype: torch.dtype) -> None:
        super().__init__()
        _, detector = both_detectors(backbone, preset)
        self.detector = detector
        folded = detector.small_maps
        folded.extractor.to(dtype)
        folded.extractor.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        folded.network.to(dtype)
        folded.template_tokens = folded.template_tokens.to(dtype)
        self.dtype = dtype

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """As `Detector.forward`."""
        detector, folded = self.detector, self.detector.small_maps
        cells = folded.extractor(image.permute(0, 3, 1, 2).to(self.dtype))
        rebuilt = folded.network.reconstruct(folded.network.embed(cells), folded.template_tokens)
        fused = anomaly_map(cells.float(), rebuilt.float(), detector.smoothing, detector.fusion)
        return fused, score_map(fused, detector.score_rule)


class Buffers:
    """One image and its results in host memory, page-locked where there is a GPU."""

    def __init__(self, device: torch.device) -> None:
        pinned = device.type == "cuda"
        self.device = device
        self.image = torch.from_numpy(random_image(seed=1))
        self.anomaly_map, self.score = torch.empty(1, 256, 256), torch.empty(1)
        if pinned:
            self.image = self.image.pin_memory()
            self.anomaly_map, self.score = self.anomaly_map.pin_memory(), self.score.pin_memory()

    def upload(self) -> Tensor:
        """The image on the device."""
        return self.image.to(self.device, non_blocking=True)

    def collect(self, outputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Results in host memory, when they are there."""
        self.anomaly_map.copy_(outputs[0], non_blocking=True)
        self.score.copy_(outputs[1], non_blocking=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return self.anomaly_map, self.score


def called(module: Callable[[Tensor], tuple[Tensor, Tensor]], buffers: Buffers) -> Run:
    """A module called as any other."""
    return lambda: buffers.collect(module(buffers.upload()))


def under_autocast(detector: Detector, dtype: torch.dtype, buffers: Buffers) -> Run:
    """The whole detector under autocast, map included, as it is for whoever adds one line."""

    def run() -> tuple[Tensor, Tensor]:
        with torch.autocast(buffers.device.type, dtype):
            return buffers.collect(detector(buffers.upload()))

    return run


def replayed(module: InType, buffers: Buffers) -> Run:
    """A module captured as a CUDA graph: one launch per image."""
    if buffers.device.type != "cuda":
        raise RuntimeError("needs CUDA")
    image = buffers.upload()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            module(image)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = module(image)

    def run() -> tuple[Tensor, Tensor]:
        image.copy_(buffers.image, non_blocking=True)
        graph.replay()
        return buffers.collect(outputs)

    return run


def compiled(module: InType, buffers: Buffers) -> Run:
    """torch.compile with CUDA graphs where there are any; compiles on the first call."""
    run = called(torch.compile(module, mode="reduce-overhead", dynamic=False), buffers)
    run()
    return run


def _make_variants(
    preset: PresetName, backbone: Backbone, buffers: Buffers, with_compile: bool
) -> dict[str, Callable[[], Run]]:
    """How to make each variant that is timed."""
    release, folded = both_detectors(backbone, preset)
    release.to(buffers.device)
    folded.to(buffers.device)

    def in_type(dtype: torch.dtype) -> InType:
        return InType(preset, backbone, dtype).to(buffers.device).eval()

    variants: dict[str, Callable[[], Run]] = {
        RELEASE: lambda: called(release, buffers),
        FOLDED: lambda: called(folded, buffers),
        "folded, autocast bfloat16": lambda: under_autocast(folded, torch.bfloat16, buffers),
        "folded, eager float16": lambda: called(in_type(torch.float16), buffers),
        "folded, CUDA graph float32": lambda: replayed(in_type(torch.float32), buffers),
        "folded, CUDA graph bfloat16": lambda: replayed(in_type(torch.bfloat16), buffers),
        "folded, CUDA graph float16": lambda: replayed(in_type(torch.float16), buffers),
    }
    if with_compile:
        variants["folded, torch.compile float16"] = lambda: compiled(in_type(torch.float16), buffers)
    return variants


@torch.inference_mode()
def image_times(
    preset: PresetName, backbone: Backbone, device: torch.device, rounds: int, frames: int, with_compile: bool
) -> dict[str, dict[str, Any]]:
    """Milliseconds per image by variant; what a machine cannot do is a row that says why."""
    buffers = Buffers(device)
    rows: dict[str, dict[str, Any]] = {}
    cases: dict[str, Run] = {}
    for name, make in _make_variants(preset, backbone, buffers, with_compile).items():
        try:
            cases[name] = make()
        except Exception as error:  # noqa: BLE001 - a compiler raises nearly anything; the row names it
            reason = str(error).strip().partition("\n")[0]
            rows[name] = {"not_measured": f"{type(error).__name__}: {reason}"}
    expected = cases[RELEASE]()[0].clone()
    differences = {name: relative_difference(run()[0], expected) for name, run in cases.items()}
    times = interleaved_ms(cases, rounds, frames)
    reference = statistics.median(ms for of_round in times[RELEASE] for ms in of_round)
    for name, of_rounds in times.items():
        flat = [ms for of_round in of_rounds for ms in of_round]
        rows[name] = {
            "images": len(flat),
            "median_ms": statistics.median(flat),
            "p99_ms": float(np.percentile(flat, 99)),
            "times_faster": reference / statistics.median(flat),
            "map_difference_of_maximum": differences[name],
        }
    return rows
