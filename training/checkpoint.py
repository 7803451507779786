"""Weights and training states on disk: read without running code from the file.

A detector's frozen backbone is not among them: a run keeps it once.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edge.errors import ConfigError
from training.files import whole_file

_FROZEN = "backbone."


@dataclass(frozen=True)
class Epoch:
    """What one pass over the images came to.

    Attributes:
        train_loss: mean over the images, with masking, while the weights changed.
        held_out_loss: mean over the held-out good parts, without masking, after it; None where none are held out.
        lr: of the last step.
        seconds: it took.
    """

    train_loss: float
    held_out_loss: float | None
    lr: float
    seconds: float


@dataclass(frozen=True)
class TrainingState:
    """All that a training needs to go on after an epoch as if it had never stopped."""

    network: dict[str, Tensor]
    optimiser: dict[str, Any]
    history: tuple[Epoch, ...]


def save_state(state: TrainingState, path: Path) -> None:
    """Write a training state."""
    history = [asdict(epoch) for epoch in state.history]
    _save({"network": state.network, "optimiser": state.optimiser, "history": history}, path)


def load_state(path: Path) -> TrainingState:
    """Read what `save_state` wrote.

    Raises:
        ConfigError: the file is truncated or something else.
    """
    loaded = load_tensors(path)
    try:
        history = tuple(Epoch(**epoch) for epoch in loaded["history"])
        return TrainingState(loaded["network"], loaded["optimiser"], history)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"'{path}' is not the state of a training ({error})", "delete it and train again") from error


def own_state(module: nn.Module) -> dict[str, Tensor]:
    """A module's state dict without its frozen backbone's part."""
    return {name: value for name, value in module.state_dict().items() if not name.startswith(_FROZEN)}


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's own state, on the CPU."""
    _save({name: value.cpu() for name, value in own_state(module).items()}, path)


def load_weights(module: nn.Module, path: Path) -> None:
    """Read what `save_weights` wrote into a module of the same kind and sizes.

    Raises:
        ConfigError: the file is missing, truncated or holds another network.
    """
    set_own_state(module, load_tensors(path), path)


def set_own_state(module: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Put what `own_state` gave into a module of the same kind and sizes.

    Raises:
        ConfigError: it is of another network; names the file it is from.
    """
    expected = own_state(module)
    wrong = sorted(expected.keys() ^ state.keys()) or [
        f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if not isinstance(state[name], Tensor) or state[name].shape != value.shape
    ]
    if wrong:
        raise ConfigError(
            f"'{path}' holds another network than its settings say ({wrong[0]} and {len(wrong) - 1} more differ)",
            "train it again",
        )
    module.load_state_dict(state, strict=False)


def load_tensors(path: Path) -> dict[str, Any]:
    """A dictionary that `torch.save` wrote, with `weights_only`: nothing in the file is executed.

    Raises:
        ConfigError: the file is missing, truncated or something else.
    """
    try:
        with warnings.catch_warnings():
            # A foreign pickle is warned of before it is refused.
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f"no file '{path}'", "check the path, or train first") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ConfigError(
            f"'{path}' is no checkpoint of tensors alone, or a truncated one ({type(error).__name__})",
            "copy it again, or train again",
        ) from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"'{path}' holds {type(loaded).__name__}, not weights by name", "give a checkpoint")
    return loaded


def _save(content: dict[str, Any], path: Path) -> None:
    with whole_file(path) as file:
        torch.save(content, file)
