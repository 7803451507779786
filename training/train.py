"""From a folder of good parts to a run directory."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge.errors import ConfigError
from edge.frame import Image
from training.checkpoint import load_state, save_state, save_weights
from training.curves import draw_curves, write_history
from training.data.good_parts import GoodParts, load_good_parts
from training.data.images import ignored_cells, read_ignore_mask
from training.distributed import World
from training.feature_cells import FeatureCells
from training.image_sets import evenly
from training.loop import Training, best_epoch, is_done
from training.networks.backbones import Backbone, load_backbone, weights_source
from training.networks.detector import to_nchw
from training.networks.features import GRID, TOKENS, CellExtractor
from training.networks.tfanet import PRESETS, TFANet
from training.provenance import code_version
from training.run import CURVES, HISTORY, NETWORK, STATE, Run, RunRecord, snapshot_name, start_run
from training.settings import TrainSettings

Bool = npt.NDArray[np.bool_]
MAX_SCALE_IMAGES = 64
MIN_DEVIATION_SHARE = 0.01


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
        cache_bytes: memory that the backbone's features may take per process.

    Raises:
        InputError: the data, the weights or the directory do not fit.
        TfanetEdgeError: the loss is not finite.
    """
    parts = load_good_parts(data, settings.data, settings.seed)
    _refuse_impossible(parts, settings, data)
    backbone = load_backbone(settings.backbone, weights)
    templates = choose_templates(parts.train, settings.templates)
    ignore_mask = read_ignore_mask(settings.data)
    ignored = None if ignore_mask is None else ignored_cells(ignore_mask, settings.data.roi_xywh)
    record = _record(parts, settings, weights_source(settings.backbone, weights), data.resolve(), world.size)
    if world.rank == 0:
        start_run(out, record, backbone, templates, ignored)
    world.wait()
    run = Run(out, record)
    state = load_state(out / STATE) if (out / STATE).is_file() else None
    if state is not None and is_done(state.history, settings):
        return run
    training = _training(parts, templates, ignored, backbone, settings, world, cache_bytes)
    if state is not None:
        training.resume(state)
        if world.rank == 0:
            print(f"going on after epoch {len(state.history)}: {out}", file=sys.stderr)
    training.run(lambda training: _keep(training, out) if world.rank == 0 else None)
    world.wait()
    return run


def _refuse_impossible(parts: GoodParts, settings: TrainSettings, data: Path) -> None:
    if settings.patience and not len(parts.held_out):
        raise ConfigError(
            f"early stopping needs held-out parts, '{data}' leaves none", "raise held_out_share or set patience to 0"
        )
    if settings.templates > len(parts.train):
        raise ConfigError(f"{settings.templates} templates of {len(parts.train)} images", "ask for fewer templates")


def _training(
    parts: GoodParts,
    templates: Image,
    ignored: Bool | None,
    backbone: Backbone,
    settings: TrainSettings,
    world: World,
    cache_bytes: float,
) -> Training:
    """A training that has not begun; takes the backbone to the world's device."""
    backbone.to(world.device)
    torch.manual_seed(settings.seed)
    network = TFANet(sum(backbone.tap_channels), PRESETS[settings.preset], settings.templates).to(world.device)
    mean, deviation = channel_statistics(backbone, parts.train, world.device)
    if settings.feature_scale == "deviation":
        network.feature_scale.copy_(1 / deviation)
    if settings.head_bias == "mean":
        network.start_at(mean)
    template = None
    if settings.templates:
        of_template = CellExtractor(backbone, network.feature_scale, settings.normalise_template).to(world.device)
        template = FeatureCells(of_template, templates, np.inf).cells(torch.arange(settings.templates))
    extractor = CellExtractor(backbone, network.feature_scale).to(world.device)
    train, held_out = (FeatureCells(extractor, images, cache_bytes) for images in (parts.train, parts.held_out))
    return Training(network, train, held_out, template, counted_tokens(ignored), settings, world)


def choose_templates(images: Image, count: int) -> Image:
    """At most `count` images, evenly spaced in their order, beginning with the first."""
    return np.ascontiguousarray(images[evenly(len(images), count)])


@torch.no_grad()
def channel_statistics(backbone: Backbone, images: Image, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of the features, float64 (C,), over at most 64 images.

    Deviations are not below a hundredth of their mean: a channel that hardly ever says anything must not, scaled by
    its deviation, outshout all others.
    """
    channels = sum(backbone.tap_channels)
    extractor = CellExtractor(backbone, torch.ones(channels)).to(device)
    total, squares = torch.zeros(2, channels, dtype=torch.float64, device=device)
    chosen = choose_templates(images, MAX_SCALE_IMAGES)
    for image in chosen:
        features = extractor.features(to_nchw(image[None]).to(device))[0].flatten(1).double()
        total += features.mean(1) / len(chosen)
        squares += features.square().mean(1) / len(chosen)
    deviation = (squares - total.square()).clamp(min=0).sqrt()
    return total, deviation.clamp(min=MIN_DEVIATION_SHARE * deviation.mean())


def counted_tokens(ignored: Bool | None) -> Tensor:
    """Indices of the tokens of which not every pixel is ignored.

    Raises:
        ConfigError: none is left.
    """
    if ignored is None:
        return torch.arange(TOKENS)
    cell_px = ignored.shape[0] // GRID
    whole = ignored.reshape(GRID, cell_px, GRID, cell_px).all(axis=(1, 3)).ravel()
    if whole.all():
        raise ConfigError("ignore_mask covers the whole image", "leave something to judge")
    return torch.from_numpy(np.flatnonzero(~whole))


def _keep(training: Training, out: Path) -> None:
    """After an epoch, in an order that a kill at any moment cannot spoil: the state comes last."""
    number, best = len(training.history), best_epoch(training.history)
    if best == number - 1:
        save_weights(training.network, out / NETWORK)
    if training.settings.snapshots:
        save_weights(training.network, out / snapshot_name(number))
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
