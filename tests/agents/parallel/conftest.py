"""Several processes on this machine, that have imported what they need before they are begun."""

import multiprocessing
import runpy
import socket
from pathlib import Path

import pytest
import torch

JOBS = Path(__file__).with_name("jobs.py")

LOADED = [
    "agents.training.train",
    "diffusers.models.autoencoders.vq_model",
    "torch.utils.tensorboard",
]


@pytest.fixture(scope="session")
def jobs():
    """The functions of `jobs.py`, in this process."""
    return runpy.run_path(str(JOBS))


@pytest.fixture(scope="session")
def together():
    """Call a function of `jobs.py` in so many processes: what it gave on each."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)

    def run(name: str, world: int, folder: Path) -> list:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        processes = []
        for rank in range(world):
            given = {"GIVEN": (name, rank, world, port, folder)}
            process = context.Process(target=runpy.run_path, args=(str(JOBS), given, "job"))
            process.start()
            processes.append(process)
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * world
        files = [folder / f"{name}_{rank}.pt" for rank in range(world)]
        return [torch.load(file, weights_only=True) for file in files]

    return run
