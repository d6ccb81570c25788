"""How processes begin that torchrun or `accelerate launch` started, and how they end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from nat_env.bundles.loading import check_device
from nat_env.parallel.endings import ends_soon_after_sigterm
from nat_env.parallel.processes import Processes

PATIENCE = timedelta(days=7)
"""How long one waits for another that lives: the main one may measure for hours what the others
wait for, and no batch system runs longer. That another has died is told at once, by its closed
connection and by the launcher."""


@contextmanager
def started(device: str) -> Iterator[Processes]:
    """The processes that torchrun or `accelerate launch` started; this one alone if nobody did.

    With CUDA each has the device cuda:LOCAL_RANK. What is on a GPU goes by nccl, all else by gloo.
    accelerate takes the process group as it is. Where there is one already, it serves and stays.

    Args:
        device: what a user asked for, the same of all.

    Raises:
        ValueError: a device that is one process's, or one that this machine does not have; or one
            process was started where several had been asked for.
        ConnectionError: within the block another process has ended.
    """
    _check_launch()
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 and not dist.is_torchelastic_launched():
        yield Processes(device=torch.device(check_device(device)))
        return
    own = torch.device(check_device(_own_device(device)))
    if own.type == "cuda":
        torch.cuda.set_device(own)
    if dist.is_initialized():
        yield _connected(own)
        return
    # Several back-ends: what is on the host, objects for example, is not sent by way of a GPU.
    backend = "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo"
    with ends_soon_after_sigterm():
        try:
            dist.init_process_group(backend, timeout=PATIENCE)
            processes = _connected(own)
            yield processes
            processes.gathered("done")  # the main one may hold what the others speak through
        except RuntimeError as error:
            if not _is_of_connection(error):
                raise
            raise ConnectionError("another process has ended, which the launcher names") from error
        dist.destroy_process_group()  # after an error it could wait for one that is not there


def _connected(device: torch.device) -> Processes:
    return Processes(dist.get_rank(), dist.get_world_size(), device, connected=True)


def _check_launch() -> None:
    one = int(os.environ.get("WORLD_SIZE", 1)) == 1
    if one and "MASTER_PORT" in os.environ and os.environ.get("ACCELERATE_USE_CPU") == "True":
        raise ValueError(
            "num_processes: accelerate launch --cpu starts one process, whatever number it is "
            "given; launch with --multi_gpu in its place, which also starts processes for "
            "--device cpu"
        )


def _own_device(device: str) -> str:
    """Of this process, one of several."""
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return device
    if kind != "cuda" or number:
        raise ValueError(
            f"device: got {device!r}, allowed with several processes are cpu and cuda, of which "
            "each takes the one of its LOCAL_RANK"
        )
    local, here = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if 0 < here <= local:
        raise ValueError(
            f"device: got cuda for process {local} of this machine, allowed are {here} processes, "
            "one for each of its GPUs"
        )
    return f"cuda:{local}"


def _is_of_connection(error: RuntimeError) -> bool:
    """Whether another process is gone: torch raises plain errors of gloo's."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)
