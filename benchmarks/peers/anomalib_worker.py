"""One of anomalib's detectors trained and tested on one product: raw scores, raw maps, times and memory.

    PEER_PYTHON benchmarks/peers/anomalib_worker.py --data DIR --backbone-weights FILE \
        --method patchcore|padim|reverse_distillation --out FILE.json [--epochs N] [--coreset-ratio R]

Runs in the environment of requirements.txt, where nothing of this project is installed. Trains on train/good and
predicts everything under test. Writes FILE.json and, beside it, FILE.npz with `scores` float32 (N,) and `maps` float32
(N, 256, 256) in the order of the JSON's `images`. Both are as the detector's network returns them: anomalib's
post-processor, which rescales by statistics of a validation set and clamps to 0–1, is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from anomalib.data.datasets.image import FolderDataset
from anomalib.data.utils import Split, read_image
from anomalib.models import Padim, Patchcore, ReverseDistillation
from anomalib.models.components import AnomalibModule, TimmFeatureExtractor
from lightning.pytorch import Trainer, seed_everything
from torch.utils.data import DataLoader

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
PACKAGES = ("anomalib", "torch", "torchvision", "timm", "lightning", "numpy")
WARM_UP = 5
PLAIN = {"pre_trained": False, "post_processor": False, "evaluator": False, "visualizer": False}
ALWAYS_CHANGED = {
    "weights": "the checkpoint given, instead of timm's download",
    "post_processor, evaluator, visualizer": "off",
}


@dataclass(frozen=True)
class Peer:
    """A detector ready to be trained, and in words what of it is not anomalib's default."""

    module: AnomalibModule
    extractor: TimmFeatureExtractor
    epochs: int
    batch: int
    changed: dict[str, str]


def build_peer(method: str, epochs: int, coreset_ratio: float, batch: int) -> Peer:
    """The detector with a ResNet-18 that has no weights yet; 256×256 without centre crop, ImageNet mean and std.

    Where a setting is not given it is anomalib's default. A memory bank is filled in one pass over the images.
    """
    if method == "padim":
        padim = Padim(backbone="resnet18", **PLAIN)
        return Peer(padim, padim.model.feature_extractor, 1, batch, {})
    if method == "patchcore":
        patchcore = Patchcore(backbone="resnet18", coreset_sampling_ratio=coreset_ratio, **PLAIN)
        changed = {"backbone": "resnet18 instead of wide_resnet50_2"}
        if coreset_ratio != 0.1:
            changed["coreset_sampling_ratio"] = f"{coreset_ratio} instead of 0.1"
        return Peer(patchcore, patchcore.model.feature_extractor, 1, batch, changed)
    distillation = ReverseDistillation(backbone="resnet18", **PLAIN)
    changed = {"backbone": "resnet18 instead of wide_resnet50_2", "epochs": f"{epochs}; the paper trains 200"}
    return Peer(distillation, distillation.model.encoder, epochs, batch, changed)


def load_weights(extractor: TimmFeatureExtractor, path: Path) -> None:
    """Load a checkpoint with torchvision's key names; layers the detector does not use are ignored.

    Raises:
        RuntimeError: the checkpoint lacks a weight of the extractor, or its shape differs.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    network = extractor.feature_extractor
    wanted = network.state_dict()
    network.load_state_dict({key: value for key, value in state.items() if key in wanted}, strict=True)


def train(peer: Peer, data: Path) -> float:
    """Fit the detector to train/good, and return the seconds it took with decoding."""
    images = FolderDataset(name=data.name, root=data, normal_dir="train/good", split=Split.TRAIN)
    loader = DataLoader(images, batch_size=peer.batch, shuffle=True, collate_fn=images.collate_fn)
    settings = {"max_epochs": peer.epochs, **peer.module.trainer_arguments, "accelerator": "cpu", "devices": 1}
    trainer = Trainer(
        **settings, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    started_s = time.perf_counter()
    trainer.fit(peer.module, loader)
    return time.perf_counter() - started_s


def predict(module: AnomalibModule, paths: list[Path]) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Scores (N,), maps (N, 256, 256) and milliseconds per image at batch 1.

    A time is that of the whole forward pass from a decoded image: resizing, normalising, network, smoothed map, score.
    """
    module.eval()
    scores, maps, times_ms = [], [], []
    with torch.inference_mode():
        for _ in range(WARM_UP):
            module(read_image(paths[0], as_tensor=True)[None])
        for path in paths:
            image = read_image(path, as_tensor=True)[None]
            started_s = time.perf_counter()
            prediction = module(image)
            times_ms.append((time.perf_counter() - started_s) * 1e3)
            scores.append(prediction.pred_score.reshape(()).numpy())
            maps.append(prediction.anomaly_map.reshape(prediction.anomaly_map.shape[-2:]).numpy())
    return np.stack(scores).astype(np.float32), np.stack(maps).astype(np.float32), times_ms


def main() -> int:
    """Train, predict, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone-weights", type=Path, required=True)
    parser.add_argument("--method", choices=("patchcore", "padim", "reverse_distillation"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20, help="of reverse distillation")
    parser.add_argument("--coreset-ratio", type=float, default=0.1, help="of PatchCore")
    parser.add_argument("--batch", type=int, default=32, help="of training; 32 is anomalib's default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    load_average_1min = os.getloadavg()[0]
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", module="lightning")
    seed_everything(arguments.seed)
    paths = sorted(path for path in (arguments.data / "test").rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    peer = build_peer(arguments.method, arguments.epochs, arguments.coreset_ratio, arguments.batch)
    load_weights(peer.extractor, arguments.backbone_weights)
    training_s = train(peer, arguments.data)
    scores, maps, times_ms = predict(peer.module, paths)
    np.savez(arguments.out.with_suffix(".npz"), scores=scores, maps=maps)
    result = {
        "method": arguments.method,
        "seed": arguments.seed,
        "images": [path.relative_to(arguments.data).as_posix() for path in paths],
        "scores_and_maps": "raw, neither rescaled nor clamped",
        "epochs": peer.epochs,
        "batch": peer.batch,
        "changed_from_defaults": {**ALWAYS_CHANGED, **peer.changed},
        "training_s": training_s,
        "inference_ms_median": statistics.median(times_ms),
        "inference_ms_min": min(times_ms),
        "inference_ms_p95": float(np.percentile(times_ms, 95)),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "load_average_1min_at_start": load_average_1min,
        "torch_threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
