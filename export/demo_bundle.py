"""Everything behind the demo's bundle, with one command: `python -m export.demo_bundle --out simulator/demo_bundle`.

Pre-training, training and export keep what they made under `--work`; a stage whose file is there is not run again.
No downloaded weight and no photograph takes part.
"""

from __future__ import annotations

import argparse
import subprocess
from dataclasses import replace
from pathlib import Path

import torch

from edge.bundle import Provenance, ScoreRule
from edge.errors import ConfigError
from edge.frame import Image
from export.bundle import Identity, data_sha256, write_bundle
from export.graph import DetectorGraph
from simulator.defects import DefectKind
from simulator.parts import HELD_OUT_SEEDS, TRAIN_SEEDS, VALIDATION_SEEDS
from training.networks.backbones import ResNet18, load_backbone
from training.networks.tfanet import TFANet
from training.pretrain import PretrainSettings, pretrain
from training.rendered import rendered_set
from training.train import TrainSettings, load_network, train

TRAIN_IMAGES = 320
TRAIN_DRIFT = 2.0
HELD_OUT_IMAGES = 600
SCORE_RULE: ScoreRule = "max"
IMAGE_FALSE_REJECT_RATE = 0.01
PIXEL_FALSE_REJECT_RATE = 1e-4
PRETRAINING = PretrainSettings()
# The rate suits the small preset; the paper's is for a network thirty times its size.
TRAINING = TrainSettings(preset="tiny", seed=7, epochs=18, batch=4, lr=5e-4, decay_share=0.3)
# A second cycle starts from the first one's weights and cools down for longer.
CYCLES = (TRAINING, replace(TRAINING, seed=8, decay_share=0.8))
GOLDEN_KINDS = (None, None, DefectKind.SCRATCH, DefectKind.STAIN)


def demo_backbone(work: Path) -> ResNet18:
    """The pre-trained backbone, made now when it is missing."""
    path = work / "backbone.pth"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        torch.save(pretrain(PRETRAINING).state_dict(), path)
    return load_backbone("resnet18", path)


def demo_network(work: Path, backbone: ResNet18, train_images: Image) -> TFANet:
    """The TFA-Net after the last cycle; cycles whose result is there are not run again."""
    network = None
    for number, settings in enumerate(CYCLES, 1):
        path = work / f"tfanet.{number}.pth"
        if not path.is_file():
            partial = work / "tfanet.partial.pth"
            train(backbone, train_images, settings, partial, network)
            partial.replace(path)
        network = load_network(path, sum(backbone.tap_channels), TRAINING.preset)
    if network is None:
        raise ConfigError("no training cycle was asked for", "give CYCLES an entry")
    return network


def make_demo_bundle(out: Path, work: Path) -> None:
    """Run the stages that are missing and write the bundle."""
    backbone = demo_backbone(work)
    train_images = rendered_set(TRAIN_SEEDS[:TRAIN_IMAGES], drift=TRAIN_DRIFT).images
    network = demo_network(work, backbone, train_images)
    template = train_images[0]
    write_bundle(
        out,
        DetectorGraph(backbone, network, template, SCORE_RULE, half_weights=True).eval(),
        template,
        rendered_set(HELD_OUT_SEEDS[:HELD_OUT_IMAGES]).images,
        rendered_set(VALIDATION_SEEDS[: len(GOLDEN_KINDS)], GOLDEN_KINDS).images,
        Identity(
            name="demo-flange",
            version="1",
            preset=TRAINING.preset,
            backbone="resnet18",
            score_rule=SCORE_RULE,
            image_false_reject_rate=IMAGE_FALSE_REJECT_RATE,
            pixel_false_reject_rate=PIXEL_FALSE_REJECT_RATE,
        ),
        Provenance(
            command="python -m export.demo_bundle",
            code_version=code_version(),
            seed=TRAINING.seed,
            epochs=sum(settings.epochs for settings in CYCLES),
            train_images=TRAIN_IMAGES,
            train_data_sha256=data_sha256(train_images),
            backbone_weights=f"pre-trained on procedural images: training/pretrain.py, seed {PRETRAINING.seed}, "
            f"{PRETRAINING.steps} batches of {PRETRAINING.batch}",
        ),
    )


def code_version() -> str:
    """The commit of this checkout.

    Raises:
        ConfigError: this is no git checkout.
    """
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ConfigError(f"no commit to name ({result.stderr.strip()})", "make the bundle in a git checkout")
    return result.stdout.strip()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="bundle directory")
    parser.add_argument("--work", type=Path, default=Path("runs/demo"), help="where the stages keep their results")
    arguments = parser.parse_args()
    make_demo_bundle(arguments.out, arguments.work)


if __name__ == "__main__":
    main()
