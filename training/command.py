"""The verb `train`: a detector from a folder of good parts.

Under `torchrun` several processes train together: `torchrun --nproc-per-node 2 -m edge.cli train …`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import ValidationError

from edge.arguments import share, whole_number_from
from edge.errors import ConfigError
from edge.manifest import Fusion, ScoreRule
from training.allocator import keep_freed_memory
from training.data.settings import DataSettings
from training.distributed import joined_world
from training.networks.backbones import BackboneName
from training.networks.tfanet import PresetName
from training.settings import NAMED, RECIPES, FeatureScale, HeadBias, Precision, TrainSettings, starting_point
from training.train import train_run

GIB = 2**30


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train --data DIR --out RUN` and its options."""
    parser = subparsers.add_parser("train", help="train a detector on good parts only")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the product's images")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run directory; goes on with one begun")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="backbone's state dict (default: PyTorch's hub)")
    parser.add_argument(
        "--config", choices=tuple(NAMED), help="begin with the paper's settings, or with those of the authors' release"
    )
    add_settings(parser)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--cache-gib",
        type=float,
        default=8.0,
        metavar="GIB",
        help="memory for the backbone's features; what does not fit is computed anew each epoch (default: %(default)s)",
    )
    parser.set_defaults(handler=_handle)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Options for fields of the settings; one that is not given stays as the named configuration has it."""
    choices = {
        "preset": PresetName,
        "backbone": BackboneName,
        "feature_scale": FeatureScale,
        "head_bias": HeadBias,
        "precision": Precision,
        "score_rule": ScoreRule,
        "fusion": Fusion,
    }
    for name, values in choices.items():
        parser.add_argument(_flag(name), choices=get_args(values), help=_description(name))
    whole = ("templates", 0), ("seed", 0), ("epochs", 1), ("batch", 1), ("warmup_steps", 0), ("patience", 0)
    for name, minimum in whole:
        parser.add_argument(_flag(name), type=whole_number_from(minimum), metavar="N", help=_description(name))
    parser.add_argument("--lr", type=float, help=_description("lr"))
    parser.add_argument("--decay-share", type=share, metavar="SHARE", help=_description("decay_share"))
    parser.add_argument("--mask-range", type=share, nargs=2, metavar=("LOW", "HIGH"), help=_description("mask_range"))
    parser.add_argument("--held-out-share", type=share, metavar="SHARE", help="good images kept back from training")
    parser.add_argument("--roi-xywh", type=int, nargs=4, metavar=("X", "Y", "W", "H"), help="region of interest")
    parser.add_argument("--ignore-mask", type=Path, metavar="FILE", help="image: what is not 0 there is never judged")
    parser.add_argument("--white-level", type=float, metavar="VALUE", help="sample that is white: 4095 for 12 bits")
    parser.add_argument("--broken", choices=("refuse", "skip"), help="images that cannot be read (default: refuse)")


def settings_from(arguments: argparse.Namespace, named: str | None = None) -> TrainSettings:
    """The settings that the options ask for, where they say nothing those of `named` or of the preset's recipe.

    Raises:
        ConfigError: a value or a combination of them is impossible.
    """
    wishes = {name: value for name, value in vars(arguments).items() if value is not None}
    given = {name: wishes[name] for name in TrainSettings.model_fields if name in wishes and name != "data"}
    data = {name: wishes[name] for name in DataSettings.model_fields if name in wishes}
    base: dict[str, Any] = {
        "precision": preferred_precision(arguments.device),
        **starting_point(named, arguments.preset),
    }
    try:
        return TrainSettings.model_validate({**base, **given, "data": {**base.get("data", {}), **data}})
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"] if isinstance(part, str))
        where = f"{_flag(name.removeprefix('data_'))}: " if name else ""
        raise ConfigError(f"{where}{first['msg'].removeprefix('Value error, ')}", f"given: {first['input']}") from error


def preferred_precision(device: str) -> Precision:
    """bfloat16 where the hardware has it; elsewhere it would be slower than float32."""
    if device != "cpu" and torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "float32"
    return "bfloat16" if "bf16" in flags else "float32"


def _handle(arguments: argparse.Namespace) -> int:
    settings = settings_from(arguments, arguments.config)
    keep_freed_memory()
    with joined_world(arguments.device) as world:
        run = train_run(arguments.data, arguments.weights, settings, arguments.out, world, arguments.cache_gib * GIB)
        if world.rank == 0:
            print(f"trained: {run.path}", file=sys.stderr)
    return 0


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _description(name: str) -> str:
    """What a setting is, and what it is where nobody says anything."""
    field = TrainSettings.model_fields[name]
    by_preset = {preset: recipe.get(name, field.default) for preset, recipe in RECIPES.items()}
    if len(set(by_preset.values())) > 1:
        default = ", ".join(f"{value} for {preset}" for preset, value in by_preset.items())
    else:
        default = str(by_preset["tiny"])
    return f"{field.description or name} (default: {default})"
