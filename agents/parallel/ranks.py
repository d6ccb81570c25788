"""The processes of one training: which of them this one is, and what they tell one another."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from agents.parallel.endings import ends_soon_after_sigterm

PATIENCE = timedelta(minutes=30)
"""How long one waits for another that lives: the first loads, judges and writes meanwhile. That
another has died is told at once, by its closed connection."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; one alone tells itself.

    Example:
        >>> Ranks().rows(5), Ranks(1, 2).rows(5)
        (slice(0, 5, None), slice(2, 5, None))
        >>> Ranks().gathered("mine"), Ranks().summed([1, 2]).tolist()
        (['mine'], [1.0, 2.0])
    """

    rank: int = 0
    """Of this process, 0 .. world - 1."""
    world: int = 1
    """How many there are."""
    device: str | None = None
    """Of this process, where it is not the configuration's."""
    connected: bool = False
    """Whether there is a process group; one process alone needs none."""

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def rows(self, total: int) -> slice:
        """Which of `total` rows are this process's: in order, as even as can be."""
        return slice(total * self.rank // self.world, total * (self.rank + 1) // self.world)

    def summed(self, numbers: Sequence[float] | NDArray[Any]) -> NDArray[np.float64]:
        """Numbers [n] added up over all processes, in float64."""
        total = torch.tensor(np.asarray(numbers, np.float64))
        if self.connected:
            dist.all_reduce(total)
        return total.numpy()

    def gathered(self, value: Any) -> list[Any]:
        """Every process's value by rank, on the first; on the others nothing.

        Tensors in it should be on the CPU.
        """
        if not self.connected:
            return [value]
        found: list[Any] | None = [None] * self.world if self.first else None
        dist.gather_object(value, found)
        return found or []


ALONE = Ranks()
"""One process."""


@contextmanager
def started_ranks(device: str) -> Iterator[Ranks]:
    """The processes that torchrun started; without it this one alone.

    With CUDA each has the device cuda:LOCAL_RANK, and gradients go by nccl; all else goes by gloo.

    Args:
        device: what a user asked for, the same of all.

    Raises:
        ValueError: a device that is one process's, or one that this machine does not have.
        ConnectionError: within the block another process has ended.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 and not dist.is_torchelastic_launched():
        yield ALONE
        return
    own = _own_device(device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    # Several back-ends: what is on the host, objects for example, is not sent by way of a GPU.
    backend = "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo"
    with ends_soon_after_sigterm():
        try:
            dist.init_process_group(backend, timeout=PATIENCE)
            yield Ranks(dist.get_rank(), dist.get_world_size(), str(own), connected=True)
        except RuntimeError as error:
            if not _is_of_connection(error):
                raise
            raise ConnectionError(
                "another process of the training has ended, which torchrun names; "
                "with --resume the run goes on"
            ) from error
        dist.destroy_process_group()  # after an error it could wait for one that is not there


def _own_device(device: str) -> torch.device:
    asked = torch.device(device)
    if asked.type != "cuda":
        return asked
    if asked.index is not None:
        raise ValueError(
            f"device: got {device}, allowed with several processes is cuda: each takes the one of "
            "its LOCAL_RANK"
        )
    local, here = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if local >= here:
        raise ValueError(
            f"device: got cuda for process {local} of this machine, allowed are {here} processes, "
            "one for each of its GPUs; see --nproc-per-node"
        )
    return torch.device("cuda", local)


def _is_of_connection(error: RuntimeError) -> bool:
    """Whether another process is gone: torch raises plain errors of gloo's."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)
