"""The training loop of every detector: good parts only, resumable after every epoch, on one process or several.

Whatever an epoch draws (order, masks) it draws from a generator seeded by the run's seed and the epoch's number, so a
training that was killed and goes on ends with the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from edge.errors import TfanetEdgeError
from training.checkpoint import Epoch, TrainingState, own_state
from training.distributed import World
from training.encodings import Encodings
from training.networks.trainable import Trainable
from training.settings import TrainSettings

HELD_OUT_BATCH = 8
_EPOCH_SEED_STRIDE = 1_000_003


def best_epoch(history: Sequence[Epoch]) -> int:
    """Index of the epoch whose weights are the result: lowest held-out loss, or the last without held-out parts."""
    losses = [epoch.held_out_loss for epoch in history if epoch.held_out_loss is not None]
    return min(range(len(losses)), key=losses.__getitem__) if losses else len(history) - 1


def is_done(history: Sequence[Epoch], settings: TrainSettings) -> bool:
    """Whether all epochs are through, or the held-out loss has not fallen for too long."""
    is_stuck = settings.patience > 0 and len(history) - 1 - best_epoch(history) >= settings.patience
    return len(history) >= settings.epochs or is_stuck


class Training:
    """A detector in training.

    Args:
        trainable: prepared, on the world's device; changed in place.
        parts: good parts to train on.
        held_out: good parts for the held-out loss; empty for none.
        settings: how to train.
        world: the processes that train together.
    """

    def __init__(
        self, trainable: Trainable, parts: Encodings, held_out: Encodings, settings: TrainSettings, world: World
    ) -> None:
        self.trainable = trainable
        self.history: tuple[Epoch, ...] = ()
        self._wrapped: nn.Module = world.wrap(trainable)
        self._parts, self._held_out = parts, held_out
        self.settings, self._world = settings, world
        self._steps_per_epoch = math.ceil(len(parts) / settings.batch)
        self._optimiser = _optimiser(trainable, settings)

    @property
    def state(self) -> TrainingState:
        """All that is needed to go on."""
        return TrainingState(own_state(self.trainable), self._optimiser.state_dict(), self.history)

    def resume(self, state: TrainingState) -> None:
        """Go on after the last epoch of a state from `state`, which the detector has already."""
        self._optimiser.load_state_dict(state.optimiser)
        self.history = state.history

    def run(self, after_epoch: Callable[[Training], None]) -> None:
        """Train until it is done; calls `after_epoch` on every process after each epoch.

        Raises:
            TfanetEdgeError: the loss is not finite.
        """
        total = self.settings.epochs * self._steps_per_epoch
        done = len(self.history) * self._steps_per_epoch
        is_quiet = self._world.rank != 0
        with tqdm(total=total, initial=done, desc="train", unit="batch", mininterval=1, disable=is_quiet) as progress:
            while not is_done(self.history, self.settings):
                self.history += (self._epoch(progress),)
                after_epoch(self)

    def _epoch(self, progress: tqdm[Any]) -> Epoch:
        started_s = time.monotonic()
        number = len(self.history)
        generator = torch.Generator().manual_seed(self.settings.seed * _EPOCH_SEED_STRIDE + number)
        order = torch.randperm(len(self._parts), generator=generator)
        self.trainable.train()
        total, lr = 0.0, 0.0
        for step, batch in enumerate(torch.split(order, self.settings.batch)):
            lr = self._rate(number * self._steps_per_epoch + step)
            loss = self._step(batch, generator, lr)
            total += loss * len(batch)
            progress.update()
            progress.set_postfix(epoch=number + 1, loss=f"{loss:.4f}", refresh=False)
        train_loss = self._world.sum(total) / len(self._parts)
        return Epoch(train_loss, self._held_out_loss(), lr, time.monotonic() - started_s)

    def _step(self, batch: Tensor, generator: torch.Generator, lr: float) -> float:
        """One step of the optimiser; this process's share of the batch's mean loss."""
        own, weight = self._world.share(batch)
        with self._autocast():
            loss: Tensor = self._wrapped(*self._parts.batch(own), generator) * weight
        value = loss.item()
        if not math.isfinite(value):
            raise TfanetEdgeError(
                f"the training loss became {value} in epoch {len(self.history) + 1}",
                "lower the learning rate, or look for broken images",
            )
        for group in self._optimiser.param_groups:
            group["lr"] = lr
        self._optimiser.zero_grad(set_to_none=True)
        # DDP averages over the processes; the weights of a batch's shares sum to 1 already.
        (loss * self._world.size).backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        return value

    def _rate(self, step: int) -> float:
        settings = self.settings
        steps = settings.epochs * self._steps_per_epoch
        rise = (step + 1) / (settings.warmup_steps + 1)
        fall = min(1.0, (steps - step) / max(1.0, settings.decay_share * steps))
        if settings.decay == "cosine":
            fall = (1 - math.cos(math.pi * fall)) / 2
        return settings.lr * min(1.0, rise, fall)

    def _autocast(self) -> AbstractContextManager[object]:
        is_mixed = self.settings.precision == "bfloat16"
        return torch.autocast(self._world.device.type, dtype=torch.bfloat16, enabled=is_mixed)

    @torch.inference_mode()
    def _held_out_loss(self) -> float | None:
        """Rank 0 computes it and tells the others, so that all stop at the same epoch."""
        if not len(self._held_out):
            return None
        total = 0.0
        if self._world.rank == 0:
            self.trainable.eval()
            for indices in torch.split(torch.arange(len(self._held_out)), HELD_OUT_BATCH):
                with self._autocast():
                    loss = self.trainable(*self._held_out.batch(indices), None)
                total += loss.item() * len(indices)
        return self._world.sum(total) / len(self._held_out)


def _optimiser(trainable: Trainable, settings: TrainSettings) -> torch.optim.Optimizer:
    trained = [parameter for parameter in trainable.parameters() if parameter.requires_grad]
    decay = settings.weight_decay
    if settings.optimiser == "sgd":
        return torch.optim.SGD(trained, lr=settings.lr, momentum=settings.momentum, weight_decay=decay, fused=True)
    return torch.optim.AdamW(trained, lr=settings.lr, betas=settings.betas, weight_decay=decay, fused=True)
