"""From a folder of good parts to a run directory."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import torch

from edge.errors import ConfigError
from training.checkpoint import load_state, save_state, save_weights, set_own_state
from training.curves import draw_curves, write_history
from training.data.good_parts import GoodParts, load_good_parts
from training.data.images import ignored_cells, read_ignore_mask
from training.distributed import World
from training.encodings import Encodings
from training.loop import Training, best_epoch, is_done
from training.networks.backbones import load_backbone, weights_source
from training.networks.trainable import Trainable
from training.provenance import code_version
from training.run import (
    CURVES,
    HISTORY,
    NETWORK,
    STATE,
    Run,
    RunRecord,
    make_directory,
    refuse_other_run,
    snapshot_name,
    start_run,
)
from training.settings import TrainSettings


def train_run(
    data: Path, weights: Path | None, settings: TrainSettings, out: Path, world: World, cache_bytes: float
) -> Run:
    """Train, or go on with a training that was stopped, until it is done.

    Args:
        data: a product's directory, see `training.data.layouts`.
        weights: of the backbone; None for PyTorch's hub.
        settings: all that decides the result.
        out: run directory; made when missing.
        world: the processes that train together.
        cache_bytes: memory that the frozen network's features may take per process.

    Raises:
        InputError: the data, the weights or the directory do not fit.
        TfanetEdgeError: the loss is not finite.
    """
    parts = load_good_parts(data, settings.data, settings.seed)
    backbone_name = settings.network.backbone
    backbone = load_backbone(backbone_name, weights)
    ignore_mask = read_ignore_mask(settings.data)
    ignored = None if ignore_mask is None else ignored_cells(ignore_mask, settings.data.roi_xywh)
    record = _record(parts, settings, weights_source(backbone_name, weights), data.resolve(), world.size)
    refuse_other_run(out, record)
    torch.manual_seed(settings.seed)
    trainable = settings.kind.build(backbone, settings.network, ignored)
    _refuse_without_held_out(parts, settings, trainable, data)
    state = load_state(out / STATE) if (out / STATE).is_file() else None
    if state is not None and is_done(state.history, settings):
        return Run(out, record)
    make_directory(out)
    trainable.to(world.device)
    if state is None:
        trainable.prepare(parts.train)
    else:
        set_own_state(trainable, state.network, out / STATE)
    if world.rank == 0:
        start_run(out, record, backbone, ignored)
    world.wait()
    train, held_out = (Encodings(trainable, images, cache_bytes) for images in (parts.train, parts.held_out))
    training = Training(trainable, train, held_out, settings, world)
    if state is not None:
        training.resume(state)
        if world.rank == 0:
            print(f"going on after epoch {len(state.history)}: {out}", file=sys.stderr)
    training.run(lambda training: _keep(training, parts, out) if world.rank == 0 else None)
    world.wait()
    return Run(out, record)


def _refuse_without_held_out(parts: GoodParts, settings: TrainSettings, trainable: Trainable, data: Path) -> None:
    if len(parts.held_out):
        return
    if settings.patience:
        raise ConfigError(
            f"early stopping needs held-out parts, '{data}' leaves none", "raise held_out_share or set patience to 0"
        )
    if trainable.needs_held_out:
        raise ConfigError(
            f"{settings.kind.title} needs held-out parts, '{data}' leaves none", "train with --held-out-share 0.1"
        )


def _keep(training: Training, parts: GoodParts, out: Path) -> None:
    """After an epoch, in an order that a kill at any moment cannot spoil: the state comes last."""
    number, best = len(training.history), best_epoch(training.history)
    is_best, trainable = best == number - 1, training.trainable
    if is_best or training.settings.snapshots:
        trainable.eval()
        with torch.no_grad():
            trainable.calibrate(parts.held_out)
    if is_best:
        save_weights(trainable, out / NETWORK)
    if training.settings.snapshots:
        save_weights(trainable, out / snapshot_name(number))
    write_history(training.history, out / HISTORY)
    draw_curves(training.history, best, out / CURVES)
    save_state(training.state, out / STATE)


def _record(parts: GoodParts, settings: TrainSettings, backbone_weights: str, data: Path, processes: int) -> RunRecord:
    return RunRecord(
        settings=settings,
        product=data.name,
        data=str(data),
        data_sha256=parts.sha256,
        train_images=len(parts.train),
        held_out_images=len(parts.held_out),
        skipped=parts.skipped,
        backbone_weights=backbone_weights,
        code_version=code_version(),
        torch_version=str(torch.__version__),
        processes=processes,
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    )
