"""Training cost and time per image on one NVIDIA GPU.

    PYTHONPATH=. python benchmarks/gpu.py [--preset base] [--weights FILE --backbone NAME] [--data DIR | --images N]
        [--epochs 4] [--cache-gib 32] [--rounds 6] [--frames 50] [--without-compile] [--out benchmarks/results/gpu.json]

Needs torch, numpy, opencv-python-headless, tqdm and pydantic, nothing installed of this project; what is missing may
lie in a further folder of PYTHONPATH. Random backbone weights unless --weights gives some: no duration depends on
them. --data is a product's directory (train/good, and test for the image AUROC that weights make meaningful);
without it the training images are noise.

Per image, batch 1: from an image in page-locked memory to map and score in page-locked memory, wall clock, every
variant in turn in each round on the same GPU. PyTorch's defaults: convolutions in float32 may use TF32, matrix products
do not. `--device cpu --preset tiny --images 8 --epochs 1 --rounds 1 --frames 1` tries everything without a GPU.
Exits 2 without a CUDA device.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from gpu_variants import image_times
from measure import BACKBONES, environment, random_backbone, random_image

from edge.frame import Image
from training.data.good_parts import load_good_parts
from training.data.labelled import read_labelled
from training.distributed import World
from training.encodings import Encodings
from training.loop import Training
from training.networks.backbones import Backbone, BackboneName, fold_batch_norm, load_backbone
from training.networks.detector import Detector
from training.networks.tfanet import PRESETS
from training.networks.tfanet_detector import KIND, TfaNet, TfaNetSettings
from training.settings import TrainSettings

RESULT = Path(__file__).parent / "results" / "gpu.json"
PACKAGES = ("torch", "numpy")


def train(
    images: Image, held_out: Image, backbone: Backbone, settings: TrainSettings, device: torch.device, cache_gib: float
) -> tuple[TfaNet, dict[str, Any]]:
    """Train as the verb `train` does; time per epoch and peak memory."""
    is_cuda = device.type == "cuda"
    if is_cuda:
        torch.cuda.reset_peak_memory_stats()
    torch.manual_seed(settings.seed)
    assert isinstance(settings.network, TfaNetSettings)
    trainable = TfaNet(backbone, settings.network, None)
    trainable.to(device)
    started_s = time.perf_counter()
    trainable.templates.copy_(torch.from_numpy(images[:1]))
    parts, held_out_parts = (Encodings(trainable, some, cache_gib * 2**30) for some in (images, held_out))
    if is_cuda:
        torch.cuda.synchronize()
    features_s = time.perf_counter() - started_s
    training = Training(trainable, parts, held_out_parts, settings, World(0, 1, device))
    training.run(lambda _: None)
    # The first epoch chooses algorithms and fills the allocator.
    steady_s = [epoch.seconds for epoch in training.history[1:]] or [training.history[0].seconds]
    trainable.eval()
    return trainable, {
        "images": len(images),
        "held_out_images": len(held_out),
        "batch": settings.batch,
        "precision": settings.precision,
        "features_cached": parts.is_cached,
        "features_s": features_s,
        "first_epoch_s": training.history[0].seconds,
        "epoch_s": statistics.median(steady_s),
        "epochs_per_minute": 60 / statistics.median(steady_s),
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if is_cuda else None,
        "history": [asdict(epoch) for epoch in training.history],
    }


@torch.inference_mode()
def image_auroc(data: Path, settings: TrainSettings, detector: Detector, device: torch.device) -> float:
    """Of the detector's scores on the labelled images: the share of pairs in the right order, ties half."""
    good: list[float] = []
    defective: list[float] = []
    for part in read_labelled(data, settings.data):
        _, score = detector(torch.from_numpy(part.image[None]).to(device))
        (good if part.defect is None else defective).append(float(score))
    pairs = np.subtract.outer(defective, good)
    return float(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def print_tables(result: dict[str, Any]) -> None:
    """As Markdown."""
    rows = result["per_image"]
    print(f"{result['preset']} with {result['backbone']}, {result['device']['name']}\n")
    print("| one image, batch 1 | median, ms | p99, ms | times faster | map moves by, of its maximum |")
    print("|---|---|---|---|---|")
    for name, row in rows.items():
        if "not_measured" in row:
            print(f"| {name} | not measured: {row['not_measured']} | | | |")
        else:
            print(
                f"| {name} | {row['median_ms']:.3f} | {row['p99_ms']:.3f} | {row['times_faster']:.2f} "
                f"| {row['map_difference_of_maximum']:.1e} |"
            )
    cost = result["training"]
    peak, auroc = cost["peak_memory_bytes"], result["image_auroc"]
    print("\n| training | images | features, s | epoch, s | epochs per minute | peak memory, GB | image AUROC |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| batch {cost['batch']}, {cost['precision']}, {len(cost['history'])} epochs | {cost['images']} "
        f"| {cost['features_s']:.1f} | {cost['epoch_s']:.2f} | {cost['epochs_per_minute']:.1f} "
        f"| {'not measured' if peak is None else f'{peak / 1e9:.2f}'} "
        f"| {'not measured' if auroc is None else f'{auroc:.3f}'} |"
    )


def describe_device(device: torch.device) -> dict[str, Any]:
    """Its name, and driver and CUDA where it is a GPU."""
    if device.type != "cuda":
        return {"name": "CPU"}
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    return {"name": torch.cuda.get_device_name(device), "driver": driver, "cuda": torch.version.cuda}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="base")
    parser.add_argument("--backbone", choices=get_args(BackboneName), help="default: the preset's")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="backbone's state dict")
    parser.add_argument("--data", type=Path, metavar="DIR", help="a product's directory")
    parser.add_argument("--images", type=int, default=200, help="of noise to train on without --data")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--cache-gib", type=float, default=32.0)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--frames", type=int, default=50, help="per variant and round")
    parser.add_argument("--without-compile", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


def measure(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Time per image, cost of training, and accuracy where weights and data are real."""
    name: BackboneName = arguments.backbone or BACKBONES[arguments.preset]

    def backbone() -> Backbone:
        return load_backbone(name, arguments.weights) if arguments.weights else random_backbone(name)

    rows = image_times(
        arguments.preset, backbone(), device, arguments.rounds, arguments.frames, not arguments.without_compile
    )
    settings = TrainSettings(
        network=TfaNetSettings(preset=arguments.preset, backbone=name),
        epochs=arguments.epochs,
        batch=arguments.batch,
        precision="bfloat16",
    )
    if arguments.data:
        parts = load_good_parts(arguments.data, settings.data, settings.seed)
        images, held_out = parts.train, parts.held_out
    else:
        images = np.concatenate([random_image(seed) for seed in range(arguments.images)])
        held_out = images[:0]
    frozen = backbone().to(device)
    trainable, cost = train(images, held_out, frozen, settings, device, arguments.cache_gib)
    auroc = None
    if arguments.weights and arguments.data:
        trainable.cpu()
        fold_batch_norm(trainable)
        detector = Detector(trainable.maps(), KIND.fuse, settings.score_rule, settings.network.fusion).to(device)
        auroc = image_auroc(arguments.data, settings, detector, device)
    return {
        "command": " ".join(["python", "benchmarks/gpu.py", *sys.argv[1:]]),
        "preset": arguments.preset,
        "backbone": name,
        "backbone_weights": arguments.weights.name if arguments.weights else "random",
        "data": arguments.data.name if arguments.data else "noise",
        "device": describe_device(device),
        "machine": environment(PACKAGES),
        "per_image": rows,
        "training": cost,
        "image_auroc": auroc,
    }


def main() -> int:
    """Measure, print the tables, keep the figures."""
    arguments = parse_arguments()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("not measured: no CUDA device", file=sys.stderr)
        return 2
    result = measure(arguments, torch.device(arguments.device))
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print_tables(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
