"""Frozen ImageNet feature extractors: which there are, and their weights from a file or from PyTorch's hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edge.bundle import file_sha256
from edge.errors import ConfigError
from training.checkpoint import load_tensors
from training.networks.resnet import BasicBlock, Bottleneck, ResNet
from training.networks.resnet_v2 import ResNet50V2
from training.networks.vgg import VGG16

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HUB_URL = "https://download.pytorch.org/models/"

BackboneName = Literal["resnet18", "resnet34", "resnet50", "resnet50v2", "wide_resnet50_2", "vgg16"]
# Each maps normalised RGB (N, 3, H, W) to a tuple of taps, whose channels its `tap_channels` tells.
Backbone: TypeAlias = ResNet | ResNet50V2 | VGG16


@dataclass(frozen=True)
class Architecture:
    """How to make a backbone, and where its ImageNet weights are.

    Attributes:
        build: makes an untrained one.
        hub_file: its checkpoint in PyTorch's hub, with the sha256 prefix in the name; None where the hub has none.
        unused: beginnings of the keys of a full checkpoint that no tap needs.
    """

    build: Callable[[], Backbone]
    hub_file: str | None
    unused: tuple[str, ...]


_RESNET_UNUSED = ("layer4.", "fc.")
ARCHITECTURES: Mapping[BackboneName, Architecture] = {
    "resnet18": Architecture(ResNet, "resnet18-f37072fd.pth", _RESNET_UNUSED),
    "resnet34": Architecture(partial(ResNet, BasicBlock, (3, 4, 6)), "resnet34-b627a593.pth", _RESNET_UNUSED),
    "resnet50": Architecture(partial(ResNet, Bottleneck, (3, 4, 6), 64, 256), "resnet50-0676ba61.pth", _RESNET_UNUSED),
    "resnet50v2": Architecture(ResNet50V2, None, ()),
    "wide_resnet50_2": Architecture(
        partial(ResNet, Bottleneck, (3, 4, 6), 128, 256), "wide_resnet50_2-95faca4d.pth", _RESNET_UNUSED
    ),
    "vgg16": Architecture(VGG16, "vgg16-397923af.pth", ("features.24.", "features.26.", "features.28.", "classifier.")),
}


def build_backbone(name: BackboneName) -> Backbone:
    """An untrained backbone in training mode."""
    return ARCHITECTURES[name].build()


def load_backbone(name: BackboneName, weights: Path | None) -> Backbone:
    """A frozen backbone in eval mode with pre-trained weights.

    Args:
        name: which architecture.
        weights: its state dict, a full one or just the part that the taps need; None fetches the official one from
            PyTorch's hub, or finds it in the hub's cache.

    Raises:
        ConfigError: no such file, not a state dict, keys or shapes of another architecture; the hub has no weights,
            cannot be reached, or holds a file that does not match its hash.
    """
    path = _hub_checkpoint(name) if weights is None else weights
    state = _read_state_dict(path)
    backbone = build_backbone(name)
    wanted = _without(backbone.state_dict(), ())
    given = _without(state, ARCHITECTURES[name].unused)
    mismatch = _first_mismatch(wanted, given)
    if mismatch:
        raise ConfigError(f"'{path}' is not a {name} checkpoint ({mismatch})", f"give {name} weights: --weights FILE")
    backbone.load_state_dict(given)
    return backbone.eval().requires_grad_(False)


def weights_source(name: BackboneName, weights: Path | None) -> str:
    """Where the weights come from that `load_backbone` loaded: file name and sha256."""
    path = _hub_checkpoint(name) if weights is None else weights
    origin = "PyTorch hub " if weights is None else ""
    return f"{origin}{path.name} sha256 {file_sha256(path)}"


def fold_batch_norm(network: nn.Module) -> None:
    """Fold each batch normalisation that follows a convolution into it, in place; outputs in eval mode stay equal.

    The network has to be in eval mode. Every module here registers its children in the order in which they run.
    """
    for module in list(network.modules()):
        for (conv_name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d):
                is_transposed = isinstance(conv, nn.ConvTranspose2d)
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm, is_transposed))
                setattr(module, norm_name, nn.Identity())


def _hub_checkpoint(name: BackboneName) -> Path:
    """The official checkpoint in the hub's cache, downloaded when it is missing, its hash verified."""
    file = ARCHITECTURES[name].hub_file
    if file is None:
        raise ConfigError(f"PyTorch's hub has no {name} weights", "give a checkpoint: --weights FILE")
    sha256_prefix = Path(file).stem.rpartition("-")[2]
    path = Path(torch.hub.get_dir(), "checkpoints", file)
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(HUB_URL + file, str(path), sha256_prefix)
        except (OSError, HTTPException, RuntimeError) as error:
            raise ConfigError(
                f"{name} weights '{file}' cannot be fetched from {HUB_URL} ({error})", "give them: --weights FILE"
            ) from error
    sha256 = file_sha256(path)
    # The download was checked as it came; a file in the cache may have been damaged since.
    if not sha256.startswith(sha256_prefix):
        raise ConfigError(
            f"'{path}' is not what its name says (sha256 {sha256[:8]}…)", "delete it, or give --weights FILE"
        )
    return path


def _read_state_dict(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise ConfigError(f"no backbone weights at '{path}'", "give a state dict")
    state = load_tensors(path)
    for key, value in state.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            raise ConfigError(f"'{path}' is not a state dict ({key!r} is no tensor)", "give a state dict alone")
    return state


def _without(state: Mapping[str, Tensor], unused: tuple[str, ...]) -> dict[str, Tensor]:
    """A state dict without what no tap needs; old checkpoints do not count batches."""
    return {
        key: value
        for key, value in state.items()
        if not (key.startswith(unused) or key.endswith(".num_batches_tracked"))
    }


def _first_mismatch(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str | None:
    for key, tensor in wanted.items():
        if key not in given:
            return f"{key!r} is missing"
        if given[key].shape != tensor.shape:
            return f"{key!r} is {tuple(given[key].shape)} instead of {tuple(tensor.shape)}"
        if not given[key].is_floating_point():
            return f"{key!r} is {given[key].dtype}"
    return next((f"{key!r} is unexpected" for key in given if key not in wanted), None)
