"""The training loop that tokenizer, transformer and judge share: resumable, with progress."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from nat_env.storage.claims import check_same
from nat_env.storage.files import explained
from nat_env.storage.state import load_state, save_state
from pretrain.parallel.execution import Execution

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train."""

    epochs: float
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    """The learning rate rises linearly over these, then falls to 0 along half a cosine."""
    checkpoint_seconds: float = 60.0

    def total_steps(self, num_samples: int) -> int:
        """Updates of a training on so many samples; an epoch leaves out its last, partial batch.

        Example:
            >>> LoopConfig(epochs=1.5, batch_size=32).total_steps(100)
            4
        """
        return max(1, int(self.epochs * (num_samples // self.batch_size)))


def learning_rate_at(step: int, total_steps: int, warmup_steps: int) -> float:
    """Linear warm-up, then half a cosine down to 0: a factor in [0, 1].

    Example:
        >>> [round(learning_rate_at(s, 30, 10), 2) for s in (0, 9, 20, 30)]
        [0.1, 1.0, 0.5, 0.0]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    share = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * share))


def epoch_batches(num_samples: int, batch_size: int, seed: int, step: int) -> Iterator[Tensor]:
    """Index batches from `step` on, for ever: each epoch a fresh permutation fixed by the seed."""
    per_epoch = num_samples // batch_size
    if per_epoch < 1:
        raise ValueError(f"batch_size: got {batch_size}, allowed is at most {num_samples}")
    while True:
        epoch, first = divmod(step, per_epoch)
        generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
        order = torch.randperm(num_samples, generator=generator)
        for index in range(first, per_epoch):
            yield order[index * batch_size : (index + 1) * batch_size]
        step = (epoch + 1) * per_epoch


def fit(
    name: str,
    folder: Path,
    config: LoopConfig,
    num_samples: int,
    seed: int,
    parts: dict[str, nn.Module | Optimizer],
    update: Callable[[int, int, Tensor], Mapping[str, Tensor]],
    execution: Execution | None = None,
    scaler: GradScaler | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Call `update(step, total_steps, batch indices)` for every step, from where it stopped.

    The state of `parts` is saved in `folder/<name>.safetensors`; a later call with the same
    arguments goes on from there. Torch's global generator is seeded from (seed, step) before
    each update, so that a resumed training is the unbroken one. An update steps every optimizer,
    whose learning rates then follow `learning_rate_at`; the numbers that it gives are read only
    where they are logged.

    Several processes are given the same batch, of which an update takes their rows. What is random
    is a function of seed, step and row, and all else is the same in each of them: no process has a
    state of its own, the main one saves what they share, and any number of them goes on from it.

    Args:
        name: of the training: of its file, and its events.
        folder: of the file.
        config: how long and how fast.
        num_samples: that batches are drawn from.
        seed: of batches, and of what is random in an update.
        parts: what an update changes.
        update: see above.
        execution: how it computes.
        scaler: of gradients in half precision.
        options: what else the updates depend on, as JSON has it.

    Raises:
        ValueError: the file is damaged, of other parts or of another training, or not the same for
            all processes; or a batch is larger than the data, or has no equal portions.
        OSError: the disk is full, say; the same call goes on from the last save.
    """
    execution = execution or Execution()
    execution.check_batch_size(config.batch_size)
    processes = execution.processes
    path = folder / f"{name}.safetensors"
    total_steps = config.total_steps(num_samples)
    schedules = {
        f"{key}_schedule": LambdaLR(
            part, lambda step: learning_rate_at(step, total_steps, config.warmup_steps)
        )
        for key, part in parts.items()
        if isinstance(part, Optimizer)
    }
    kept: dict[str, Any] = parts | schedules | ({"scaler": scaler} if scaler else {})
    loop = asdict(config) | {"checkpoint_seconds": None, "num_samples": num_samples, "seed": seed}
    training, step = json.loads(json.dumps(loop | {"options": dict(options)})), 0
    if path.is_file():
        state = load_state(path)
        if state.keys() != {"step", "training", *kept}:
            raise ValueError(f"path: {str(path)!r} is of another version's training; move it away")
        check_same(state["training"], training, f"folder: {str(path)!r}")
        step = int(state["step"])
        for key, part in kept.items():
            part.load_state_dict(state[key])
    steps = set(processes.from_main(processes.gathered(step)))
    if len(steps) > 1:
        raise ValueError(
            f"folder: {str(folder)!r} has step {' and '.join(map(str, sorted(steps)))} for several "
            "processes, allowed is one folder that all machines see"
        )

    def save() -> None:
        about = {"step": step, "training": training}
        save_state(path, about | {key: part.state_dict() for key, part in kept.items()})

    batches = epoch_batches(num_samples, config.batch_size, seed, step)
    last_saved = time.monotonic()
    with _reported(name, folder, step, total_steps, processes.is_main) as report:
        while step < total_steps:
            torch.manual_seed(seed * 1_000_003 + step)
            scalars = update(step, total_steps, next(batches))
            for schedule in schedules.values():
                schedule.step()
            step += 1
            report.advance()
            if step % 50 == 0 or step == total_steps:
                report.tell(step, execution.read(scalars))
            if processes.is_main and time.monotonic() - last_saved > config.checkpoint_seconds:
                save()
                last_saved = time.monotonic()
    if processes.is_main:
        save()


@dataclass(frozen=True)
class _Report:
    """A bar and TensorBoard's events; neither but of the main process."""

    name: str
    writer: "SummaryWriter | None" = None
    bar: "tqdm[Any] | None" = None

    def advance(self) -> None:
        """By a step."""
        if self.bar is not None:
            self.bar.update()

    def tell(self, step: int, scalars: Mapping[str, float]) -> None:
        """What was measured at a step."""
        if self.writer is not None and self.bar is not None:
            for key, value in scalars.items():
                self.writer.add_scalar(f"{self.name}/{key}", value, step)
            self.bar.set_postfix({k: f"{v:.3g}" for k, v in scalars.items()}, refresh=False)


@contextmanager
def _reported(
    name: str, folder: Path, step: int, total_steps: int, shown: bool
) -> Iterator[_Report]:
    if not shown:
        yield _Report(name)
        return
    from torch.utils.tensorboard import SummaryWriter

    events = folder / "tensorboard" / name
    with (
        explained(events),
        SummaryWriter(str(events)) as writer,
        tqdm(
            total=total_steps, initial=step, desc=name, unit="step", mininterval=2, disable=None
        ) as bar,
    ):
        yield _Report(name, writer, bar)
