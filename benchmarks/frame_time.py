"""Time per frame at batch 1 on the CPU: as the authors' release computes it, folded, and in ONNX Runtime.

    python benchmarks/frame_time.py [--presets base small tiny] [--rounds 10] [--frames 3] [--threads N]
        [--without-base-onnx] [--out benchmarks/results/frame_time.json]

One run, every case in turn in each round, the same number of threads for PyTorch and ONNX Runtime. Weights are random:
no duration here depends on their values. `base` has a WideResNet-50-2, the others a ResNet-18. As the release computes
it: eager float32, the template through backbone and patch embedding for every frame, see training.networks.unfolded.
Prints Markdown tables; writes the JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from measure import (
    BACKBONES,
    Spread,
    both_detectors,
    environment,
    interleaved_ms,
    random_backbone,
    random_image,
    relative_difference,
    round_medians,
)
from stages import open_session, operator_ms, stage_cases

from edge.manifest import Preprocessing
from edge.pixel_format import PixelFormat
from edge.preprocess import preprocess
from export.to_onnx import write_onnx
from training.networks.detector import Detector
from training.networks.features import patchify
from training.networks.tfanet import PresetName
from training.networks.unfolded import UnfoldedDetector

RESULT = Path(__file__).parent / "results" / "frame_time.json"
PACKAGES = ("tfanet-edge", "torch", "onnxruntime", "numpy", "opencv-python-headless")
RELEASE, FOLDED, ONNX = "release-style, eager", "folded, eager", "folded, ONNX Runtime"
TARGETS = {"small": 10, "tiny": 20}
FRAME_SIZE_PX = (540, 540)
DETAILED: tuple[PresetName, ...] = ("small", "tiny")


@dataclass(frozen=True)
class Detectors:
    """One preset in all its forms; `onnx` is None where it is left out."""

    release: UnfoldedDetector
    folded: Detector
    onnx: Path | None


def make_detectors(preset: PresetName, directory: Path, with_onnx: bool) -> Detectors:
    """Build, and export into `directory`."""
    release, folded = both_detectors(random_backbone(BACKBONES[preset]), preset)
    path = directory / f"{preset}.onnx"
    if with_onnx:
        write_onnx(folded, path)
    return Detectors(release, folded, path if with_onnx else None)


def frame_cases(preset: PresetName, detectors: Detectors, threads: int) -> dict[str, Callable[[], object]]:
    """From the network's input to map and score."""
    image = random_image(seed=1)
    batch = torch.from_numpy(image)
    cases: dict[str, Callable[[], object]] = {
        f"{preset}, {RELEASE}": lambda: detectors.release(batch),
        f"{preset}, {FOLDED}": lambda: detectors.folded(batch),
    }
    if detectors.onnx is not None:
        session = open_session(detectors.onnx, threads)
        cases[f"{preset}, {ONNX}"] = lambda: session.run(None, {"image": image})
    return cases


def frame_times(cases: Mapping[str, Callable[[], object]], rounds: int, frames: int) -> dict[str, dict[str, Any]]:
    """Milliseconds, and how many times faster than release-style `base` in the same round."""
    times = interleaved_ms(cases, rounds, frames)
    reference = times.get(f"base, {RELEASE}")
    rows: dict[str, dict[str, Any]] = {}
    for name, of_rounds in times.items():
        rows[name] = {"ms": Spread.of([ms for of_round in of_rounds for ms in of_round])}
        if reference is not None:
            pairs = zip(round_medians(reference), round_medians(of_rounds), strict=True)
            rows[name]["times_faster"] = Spread.of([slow / fast for slow, fast in pairs])
    return rows


def stage_times(detectors: Detectors, threads: int, rounds: int, frames: int) -> dict[str, Any]:
    """Where the time of a frame goes: by stage, each a graph of its own, and by operator of the whole graph."""
    assert detectors.onnx is not None
    raw = np.random.default_rng(2).integers(0, 256, FRAME_SIZE_PX, dtype=np.uint8)
    settings = Preprocessing(input_size_px=(256, 256))
    image = random_image(seed=1)
    out = np.empty_like(image[0])
    session = open_session(detectors.onnx, threads)
    cases: dict[str, Callable[[], object]] = {
        "preprocessing": lambda: preprocess(raw, PixelFormat.BAYER_RG8, settings, out),
        **stage_cases(detectors.folded, image, threads),
        "network in one graph": lambda: session.run(None, {"image": image}),
    }
    times = interleaved_ms(cases, rounds, frames)
    return {
        "stages_ms": {name: Spread.of([ms for of_round in rows for ms in of_round]) for name, rows in times.items()},
        "operators_ms": operator_ms(detectors.onnx, image, threads, 3 * rounds),
    }


def folding(rows: Mapping[str, Mapping[str, Any]], made: Mapping[PresetName, Detectors]) -> dict[str, dict[str, Any]]:
    """What folding saves in PyTorch, and how far it moves the result."""
    batch = torch.from_numpy(random_image(seed=1))
    table: dict[str, dict[str, Any]] = {}
    for preset, detectors in made.items():
        expected_map, expected_score = detectors.release(batch)
        folded_map, folded_score = detectors.folded(batch)
        expected_reconstruction = patchify(detectors.release.maps(batch)[1])
        _, reconstruction = detectors.folded.small_maps.cells(batch)
        table[preset] = {
            "release_style_ms": rows[f"{preset}, {RELEASE}"]["ms"],
            "folded_ms": rows[f"{preset}, {FOLDED}"]["ms"],
            "reconstruction_difference": float((reconstruction - expected_reconstruction).abs().max()),
            "map_difference_of_maximum": relative_difference(folded_map, expected_map),
            "score_difference_of_score": relative_difference(folded_score, expected_score),
        }
    return table


def print_tables(result: Mapping[str, Any]) -> None:
    """The three tables of a result, as Markdown."""
    print("| one frame, batch 1 | ms, median (range) | times faster than release-style base | target |")
    print("|---|---|---|---|")
    for name, row in result["frame"].items():
        preset = name.partition(",")[0]
        faster = row["times_faster"].text(1) if "times_faster" in row else "base not measured"
        target = f"at least {TARGETS[preset]}" if preset in TARGETS and name.endswith(ONNX) else ""
        print(f"| {name} | {row['ms'].text(1)} | {faster} | {target} |")
    for preset, part in result["parts"].items():
        stages = dict(part["stages_ms"])
        whole = stages.pop("network in one graph")
        total = sum(stage.median for stage in stages.values())
        print(f"\n| {preset}, ONNX Runtime, by stage | ms, median (range) | share |\n|---|---|---|")
        for name, spread in stages.items():
            print(f"| {name} | {spread.text(2)} | {spread.median / total:.0%} |")
        print(f"| sum | {total:.2f} | 100% |\n| network in one graph | {whole.text(2)} | |")
        print(f"\n| {preset}, by operator of the whole graph | ms per frame |\n|---|---|")
        for name, ms in list(part["operators_ms"].items())[:8]:
            print(f"| {name} | {ms:.2f} |")
    print("\n| eager | release-style, ms | folded, ms | reconstruction moves by | map, of its maximum | score |")
    print("|---|---|---|---|---|---|")
    for preset, row in result["folding"].items():
        print(
            f"| {preset} | {row['release_style_ms'].text(1)} | {row['folded_ms'].text(1)} "
            f"| {row['reconstruction_difference']:.1e} | {row['map_difference_of_maximum']:.1e} "
            f"| {row['score_difference_of_score']:.1e} |"
        )


@torch.inference_mode()
def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All three tables."""
    with tempfile.TemporaryDirectory() as directory:
        made = {
            preset: make_detectors(preset, Path(directory), preset != "base" or not arguments.without_base_onnx)
            for preset in arguments.presets
        }
        cases: dict[str, Callable[[], object]] = {}
        for preset, detectors in made.items():
            cases.update(frame_cases(preset, detectors, arguments.threads))
        rows = frame_times(cases, arguments.rounds, arguments.frames)
        # Without the sessions of the first table there is memory for those of the second.
        cases.clear()
        parts = {
            preset: stage_times(made[preset], arguments.threads, arguments.rounds, arguments.frames)
            for preset in DETAILED
            if preset in made
        }
        return {"frame": rows, "parts": parts, "folding": folding(rows, made)}


def main() -> int:
    """Measure, print the tables, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=tuple(BACKBONES), default=list(BACKBONES))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--frames", type=int, default=3, help="per case and round, after one that warms up")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    parser.add_argument("--without-base-onnx", action="store_true", help="saves an export of 0.7 GB")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    result = measure(arguments)
    head = {
        "command": " ".join(["python", "benchmarks/frame_time.py", *sys.argv[1:]]),
        "threads": arguments.threads,
        "weights": "random",
        "machine": environment(PACKAGES),
    }
    arguments.out.write_text(json.dumps({**head, **result}, indent=2, default=Spread.rounded) + "\n")
    print_tables(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
