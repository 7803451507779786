"""The verb `train`: a detector from a folder of good parts.

Under `torchrun` several processes train together: `torchrun --nproc-per-node 2 -m edge.cli train …`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from training.allocator import keep_freed_memory
from training.distributed import joined_world
from training.networks.table import DETECTORS
from training.options import add_settings, settings_from
from training.settings import Precision
from training.train import train_run

GIB = 2**30


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train --data DIR --out RUN` and its options."""
    parser = subparsers.add_parser(
        "train",
        help="train a detector on good parts only",
        usage="%(prog)s --data DIR --out RUN [--detector NAME] [option ...]",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the product's images")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run directory; goes on with one begun")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="backbone's state dict (default: PyTorch's hub)")
    named = dict.fromkeys(name for kind in DETECTORS.values() for name in kind.named)
    parser.add_argument("--config", choices=tuple(named), help="begin with the settings of a paper or of its release")
    add_settings(parser)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--cache-gib",
        type=float,
        default=8.0,
        metavar="GIB",
        help="memory for what the frozen network says of the images; what does not fit is computed anew each epoch "
        "(default: %(default)s)",
    )
    parser.set_defaults(handler=_handle)


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
    usual = {"precision": preferred_precision(arguments.device)}
    settings = settings_from(vars(arguments), arguments.config, usual)
    keep_freed_memory()
    with joined_world(arguments.device) as world:
        run = train_run(arguments.data, arguments.weights, settings, arguments.out, world, arguments.cache_gib * GIB)
        if world.rank == 0:
            print(f"trained: {run.path}", file=sys.stderr)
    return 0
