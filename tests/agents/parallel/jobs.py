"""What one of several processes does; `conftest.together` calls a function here by its name.

Not a test: each process hands what it found to the test in a file.
"""

import os
from dataclasses import replace
from pathlib import Path

import torch

from agents.learners.config import TrainConfig
from agents.training.callbacks import RoundCallback
from agents.training.train import Training
from nat_env.parallel.launch import started
from nat_env.parallel.processes import ALONE
from nat_env.rewards.discriminator_config import DiscriminatorConfig

SMALL = TrainConfig(
    Path(),
    bundle="digits",
    dtype="float32",
    num_steps=2,
    budget=32 * 10,
    trajectories_per_round=32,
    num_envs=16,
    hidden_size=16,
    batch_size=64,
    epochs=2,
    discriminator=DiscriminatorConfig(trunk="bundle", widths=(8,), batch_size=32),
    discriminator_updates=2,
    warmup_rounds=2,
    eval_every=5,
    num_samples=50,
    threads=1,
)
"""A policy's step takes all transitions of a round, the discriminator's all its images."""

JUDGED = {"reward": "judge", "budget": 32 * 4, "eval_every": 0, "epochs": 5}
UNNORMALISED = {"normalize_advantage": False}
OTHERS = {
    "fresh": {
        "fresh_samples": True,
        "batch_size": 32,
        "accumulate": 2,
        "budget": 32 * 4,
        "eval_every": 0,
    },
    "map": {"residual": "confidence-map", **JUDGED},
    "a2c": {"algo": "a2c", **JUDGED, "batch_size": 256},
    "stock-ppo": {"algo": "stock-ppo", "algo_options": UNNORMALISED, **JUDGED},
    "recurrent-ppo": {"algo": "recurrent-ppo", "algo_options": UNNORMALISED, **JUDGED},
}


class Stop(KeyboardInterrupt):
    pass


def trained(out, processes=ALONE, **changes):
    """Weights of policy and discriminator, and history, of a training to its end."""
    training = Training(
        replace(SMALL, out=Path(out), **changes), progress=False, processes=processes
    )
    results = training.run()
    found = {"policy": dict(training.model.policy.named_parameters())}
    if training.env is not training.decoder:
        found["discriminator"] = dict(training.env.model.discriminator.named_parameters())
        images = training.decoder.bundle.reals.images[:20] / 255
        conditions = training.decoder.bundle.reals.conditions[:20]
        found["rewards"] = training.env.model(images, conditions)
    weights = {
        name: {key: value.detach() for key, value in part.items()}
        if isinstance(part, dict)
        else part
        for name, part in found.items()
    }
    return weights | {"history": results["history"]}


def stopped(out, processes=ALONE, **changes):
    """Let a training end in the middle of its fourth round."""
    steps, on_step = [], RoundCallback._on_step

    def stop(self):
        steps.append(1)
        if len(steps) == 15:
            raise Stop
        return on_step(self)

    RoundCallback._on_step = stop
    try:
        trained(out, processes, **changes)
    except Stop:
        return
    finally:
        RoundCallback._on_step = on_step
    raise AssertionError("it did not stop")


def train_in_pairs(processes, folder):
    found = {"whole": trained(folder / "whole", processes)}
    stopped(folder / "broken", processes)
    if processes.is_main:
        import shutil

        shutil.copytree(folder / "broken", folder / "left")
    processes.gathered("copied")
    torch.manual_seed(99)
    found["resumed"] = trained(folder / "broken", processes, resume=True)
    for name, changes in OTHERS.items():
        found[name] = trained(folder / name, processes, **changes)
    return found


def train_in_fours(processes, folder):
    return {
        "whole": trained(folder / "whole4", processes),
        "resumed": trained(folder / "left4", processes, resume=True),
    }


def main(name, rank, world, port, folder):
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    with started("cpu") as processes:
        torch.save(globals()[name](processes, folder), folder / f"{name}_{rank}.pt")


if __name__ == "job":
    main(*GIVEN)  # type: ignore[name-defined]  # noqa: F821
