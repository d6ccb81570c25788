"""Tiny trainings of every part, as one of several processes does them; run by a launcher.

Words: a folder, and what to do: `whole`, or `resume` after a process of `whole` has been killed.
"""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

import pretrain.loop
from nat_env.commands.command_line import run_command
from nat_env.commands.entry import COMMANDS
from nat_env.models.classifier import ClassifierConfig
from nat_env.models.uvit import UViTConfig
from nat_env.models.vq import TokenizerConfig
from nat_env.parallel.launch import started
from nat_env.parallel.processes import Processes
from nat_env.storage.state import save_state
from pretrain.classifier import ClassifierTraining, train_classifier
from pretrain.loop import LoopConfig, epoch_batches
from pretrain.parallel.execution import Execution
from pretrain.tokenizer import TokenizerTraining, train_tokenizer
from pretrain.transformer import TransformerTraining, train_transformer

LOOP = LoopConfig(3, batch_size=8, learning_rate=3e-3, warmup_steps=3, checkpoint_seconds=-1)
"""Nine updates."""


def data() -> tuple[Tensor, Tensor, Tensor]:
    """Images [24, 1, 4, 4], labels and tokens [24, 6]."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (24, 1, 4, 4), generator=generator).byte()
    labels = torch.randint(3, (24,), generator=generator)
    return images, labels, torch.randint(7, (24, 6), generator=generator)


def transformer(folder: Path, execution: Execution) -> nn.Module:
    """With dropout and label dropout, whose numbers belong to the rows of the batch."""
    _, labels, ids = data()
    config = UViTConfig(
        codebook_size=7, grid=(2, 3), num_classes=3, hidden_size=8, depth=3, num_heads=2
    )
    training = TransformerTraining(loop=LOOP, ema_decay=0.4, label_dropout=0.3)
    return train_transformer(ids, labels, config, training, folder, 5, execution)


def judge(folder: Path, execution: Execution) -> nn.Module:
    """With batch normalisation."""
    images, labels, _ = data()
    training = ClassifierTraining(loop=LOOP)
    config = ClassifierConfig(1, 3, (4, 8))
    return train_classifier(images, labels, config, training, folder, 5, "judge", execution)


def tokenizer(folder: Path, execution: Execution) -> nn.Module:
    """With restarts of codes, and a discriminator that joins."""
    config = TokenizerConfig(
        (4, 4), 1, 40, block_out_channels=(4, 8), latent_channels=2, norm_num_groups=2
    )
    training = TokenizerTraining(loop=LOOP, restart_every=3)
    return train_tokenizer(data()[0], config, training, folder, 5, execution).vq


TRAININGS = {"transformer": transformer, "judge": judge, "tokenizer": tokenizer}


def main(folder: Path, what: str, processes: Processes) -> None:
    """Train, and save what this process then has."""
    execution = Execution(processes)
    states = {}
    if what == "whole":
        for name, train in TRAININGS.items():
            states[name] = train(folder / name, execution).state_dict()
        twice = replace(execution, passes=2)
        states["twice"] = transformer(folder / "twice", twice).state_dict()
        save_state(folder / f"whole{processes.index}", states)

        def killed_in_the_fifth(*arguments):
            for number, batch in enumerate(epoch_batches(*arguments)):
                if number == 4 and processes.index == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield batch

        pretrain.loop.epoch_batches = killed_in_the_fifth
        transformer(folder / "killed", execution)
    else:
        states["killed"] = transformer(folder / "killed", execution).state_dict()
        words = ["tokens", "--bundle", "digits", "--out", str(folder / "tokens")]
        said = refused([*words, "--data", str(folder / "nowhere")])
        save_state(folder / f"resumed{processes.index}", states | {"said": said})
        words += ["--data", str(folder / "images"), "--shard-images", "4"]
        run_command("nat-pretrain", COMMANDS["nat-pretrain"], words)


def refused(words: Sequence[str]) -> str:
    """What this process says at the end of a command: "1" where it says nothing."""
    try:
        run_command("nat-pretrain", COMMANDS["nat-pretrain"], list(words))
    except SystemExit as end:
        return str(end.code)
    raise AssertionError("it went on")


if __name__ == "__main__":
    with started("cpu") as processes:
        main(Path(sys.argv[1]), sys.argv[2], processes)
