"""Everything behind the demo's bundle, with one command: `python -m export.demo_bundle --out simulator/demo_bundle`.

Pre-training, training and export keep what they made under `--work`; a stage whose file is there is not run again.
No downloaded weight and no photograph takes part.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edge.frame import Image
from edge.manifest import Provenance, ScoreRule
from export.bundle import Identity, Material, write_bundle
from export.graph import detector_graph
from export.staging import staged_bundle
from simulator.defects import DefectKind
from simulator.parts import HELD_OUT_SEEDS, TRAIN_SEEDS, VALIDATION_SEEDS
from training.checkpoint import load_weights, save_weights
from training.distributed import World
from training.encodings import Encodings
from training.image_sets import images_sha256
from training.loop import Training
from training.networks.anomaly_map import Fusion
from training.networks.backbones import Backbone, load_backbone
from training.networks.tfanet_detector import TfaNet, TfaNetSettings
from training.pretrain import PretrainSettings, pretrain
from training.provenance import code_version
from training.rendered import PREPROCESSING, rendered_set
from training.settings import TrainSettings
from training.thresholds import PIXEL_SHARE

HELD_OUT_IMAGES = 1000
SCORE_RULE: ScoreRule = "max"
FUSION: Fusion = "product"
FALSE_REJECT_RATE = 0.005
COMPARED_IMAGES = 32
PRETRAINING = PretrainSettings()
# The rate suits the small preset; the paper's is for a network thirty times its size.
TFANET = TfaNetSettings(preset="tiny")
TRAINING = TrainSettings(network=TFANET, seed=7, epochs=18, batch=4, lr=5e-4, decay_share=0.3)
GOLDEN_KINDS = (None, None, DefectKind.SCRATCH, DefectKind.STAIN)


@dataclass(frozen=True)
class Cycle:
    """Passes over some of the training parts, beginning with the weights of the cycle before.

    Attributes:
        seeds: of the parts.
        drift: how far they stray, in units of the station's own drift.
        settings: how to train.
    """

    seeds: range
    drift: float
    settings: TrainSettings


# The cycles cool down ever longer; the last one sees other parts, which stray hardly further than the station's.
CYCLES = (
    Cycle(TRAIN_SEEDS[:320], 2.0, TRAINING),
    Cycle(TRAIN_SEEDS[:320], 2.0, TRAINING.model_copy(update={"seed": 8, "decay_share": 0.8})),
    Cycle(TRAIN_SEEDS[320:960], 1.25, TRAINING.model_copy(update={"seed": 9, "epochs": 10, "decay_share": 0.9})),
)


def demo_backbone(work: Path) -> Backbone:
    """The pre-trained backbone, made now when it is missing."""
    path = work / "backbone.pth"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        torch.save(pretrain(PRETRAINING).state_dict(), path)
    return load_backbone("resnet18", path)


def demo_network(work: Path, backbone: Backbone) -> tuple[TfaNet, Image]:
    """TFA-Net after the last cycle, and all parts it was trained on, the template first.

    A cycle whose result is there is not run again.
    """
    torch.manual_seed(TRAINING.seed)
    trainable, seen = TfaNet(backbone, TFANET, None), []
    for number, cycle in enumerate(CYCLES, 1):
        images = rendered_set(cycle.seeds, drift=cycle.drift).images
        seen.append(images)
        path = work / f"tfanet.{number}.pth"
        if not path.is_file():
            trainable.templates.copy_(torch.from_numpy(seen[0][:1]))
            train_cycle(trainable, images, cycle.settings)
            save_weights(trainable.network, path)
        load_weights(trainable.network, path)
    trainable.eval()
    return trainable, np.concatenate(seen)


def train_cycle(trainable: TfaNet, images: Image, settings: TrainSettings) -> None:
    """Train in place on good parts, none held out: the thresholds have parts of their own."""
    alone = World(0, 1, torch.device("cpu"))
    parts, held_out = (Encodings(trainable, some, np.inf) for some in (images, images[:0]))
    Training(trainable, parts, held_out, settings, alone).run(lambda _: None)


def make_demo_bundle(out: Path, work: Path) -> None:
    """Run the stages that are missing and write the bundle."""
    backbone = demo_backbone(work)
    trainable, train_images = demo_network(work, backbone)
    template = train_images[0]
    held_out = rendered_set(HELD_OUT_SEEDS[:HELD_OUT_IMAGES]).images
    with staged_bundle(out) as directory:
        write_bundle(
            directory,
            detector_graph(backbone, trainable.network, template[None], SCORE_RULE, FUSION, half_weights=True),
            Material(
                template=template,
                held_out=held_out,
                compared=held_out[:COMPARED_IMAGES],
                golden=rendered_set(VALIDATION_SEEDS[: len(GOLDEN_KINDS)], GOLDEN_KINDS).images,
            ),
            Identity(
                name="demo-flange",
                version="1",
                detector=TRAINING.detector,
                preset=TFANET.preset,
                backbone=TFANET.backbone,
                score_rule=SCORE_RULE,
                fusion=FUSION,
                preprocessing=PREPROCESSING,
            ),
            Provenance(
                command="python -m export.demo_bundle",
                code_version=code_version(),
                seed=TRAINING.seed,
                epochs=sum(cycle.settings.epochs for cycle in CYCLES),
                train_images=len(train_images),
                train_data_sha256=images_sha256(train_images),
                backbone_weights=f"pre-trained on procedural images: training/pretrain.py, seed {PRETRAINING.seed}, "
                f"{PRETRAINING.steps} batches of {PRETRAINING.batch}",
            ),
            ("fp32",),
            FALSE_REJECT_RATE,
            PIXEL_SHARE,
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="bundle directory")
    parser.add_argument("--work", type=Path, default=Path("runs/demo"), help="where the stages keep their results")
    arguments = parser.parse_args()
    make_demo_bundle(arguments.out, arguments.work)


if __name__ == "__main__":
    main()
