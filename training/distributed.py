"""One process, or several that `torchrun` started: who this one is, and how to make the others' numbers one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from edge.errors import ConfigError


@dataclass(frozen=True)
class World:
    """The processes that train together.

    Attributes:
        rank: this one's number, from 0; 0 writes the files.
        size: how many there are.
        device: where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    def share(self, batch: Tensor) -> tuple[Tensor, float]:
        """This process's part of a global batch of indices, and its weight.

        A batch shorter than `size` leaves nothing for some: they compute on the first index with weight 0, because
        every process has to take part in the exchange of gradients.
        """
        own = batch[self.rank :: self.size]
        return (own, len(own) / len(batch)) if len(own) else (batch[:1], 0.0)

    def sum(self, value: float) -> float:
        """The sum of one number over all processes."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.item()

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with its gradients averaged over all processes."""
        return network if self.size == 1 else DistributedDataParallel(network)

    def wait(self) -> None:
        """Until every process has come here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined_world(device: str) -> Iterator[World]:
    """Join the processes that `torchrun` started; alone without it.

    Args:
        device: `cpu`, `cuda`, or `auto` for CUDA where there is any.

    Raises:
        ConfigError: CUDA was asked for and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ConfigError("no CUDA device is visible to PyTorch", "use --device cpu, or check the driver")
    uses_cuda = has_cuda and device != "cpu"
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if uses_cuda else torch.device("cpu")
    if uses_cuda:
        torch.cuda.set_device(chosen)
    if size == 1:
        yield World(0, 1, chosen)
        return
    dist.init_process_group("nccl" if uses_cuda else "gloo")
    try:
        yield World(rank, size, chosen)
    finally:
        dist.destroy_process_group()
