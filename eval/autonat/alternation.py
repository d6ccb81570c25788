"""AutoNAT's Algorithm 1: generation and training strategy by turns, on proxies of a shipped bundle.

python -m eval.autonat.alternation --bundle digits --out runs/autonat
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from agents.search import search
from agents.search.finite_differences import FiniteDifferencesConfig
from eval.evaluation.evaluate import check_numbers
from nat_env.bundles.bundle import Bundle, load_bundle
from nat_env.bundles.judging import check_rank
from nat_env.commands.parsing import parse
from nat_env.policies import ScheduledPolicy
from nat_env.storage.files import require_writable_folder, write_json
from pretrain.config import PRESETS
from pretrain.data import digits, fashion_mnist
from pretrain.strategy import MaskRatio, Proxies, ProxyObjective, greedy_search
from pretrain.tokenizer import encode_all

HISTORY = "alternation.json"
CONFIG = "alternation_config.json"


@dataclass(frozen=True)
class Arguments:
    """Optimise a schedule and the mask-ratio distribution of a NAT's training by turns.

    Every proxy training and every score is kept, and the same command goes on where it stopped.
    """

    out: Path
    """Folder: a sub-folder for each turn, alternation.json, and the last schedule."""
    bundle: Literal["digits", "fashion"] = "digits"
    """Gives tokenizer, judge and the proxies' architecture; its data set trains them."""
    data: Path | None = None
    """Folder with Fashion-MNIST's four IDX files, if not where Debian puts them."""
    epochs: float = 10.0
    """Of a proxy's training."""
    start: MaskRatio = field(default_factory=lambda: MaskRatio(2.0, 1.0))
    """Distribution at the start."""
    method: Literal["autonat", "cma"] = "autonat"
    """Of the generation strategy."""
    num_steps: int = 4
    """T."""
    images: int = 15_360
    """Budget of one search for a schedule."""
    num_samples: int = 256
    """Images of a score in that search."""
    evaluation_samples: int = 1000
    """Images by which proxies and turns are compared."""
    turns: int = 3
    """At most."""
    tolerance: float = 0.01
    """It ends when the objective changes by less: epsilon of Algorithm 1."""
    seed: int = 0
    threads: int = 2
    """Torch threads; one when another program is busy beside it."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: one is out of its range.
        """
        check_numbers(self.evaluation_samples, self.seed, batch_size=1)
        for name in ("turns", "epochs", "num_steps", "threads"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, allowed is > 0")
        if self.tolerance < 0:
            raise ValueError(f"tolerance: got {self.tolerance}, allowed is >= 0")
        _search(self, self.out, "heuristic")


def alternate(arguments: Arguments) -> list[dict[str, Any]]:
    """Algorithm 1.

    Returns:
        One row for each turn: mask ratio, FD of the schedule on the model trained under it, images,
        proxy trainings and updates of the schedule so far. Also written to alternation.json.

    Raises:
        ValueError: an argument that is not allowed, or a folder that cannot be written or holds
            another alternation.
        ImportError: see `proxies`.
    """
    bundle = load_bundle(arguments.bundle)
    for name in ("num_samples", "evaluation_samples"):
        check_rank(bundle.judge_name, bundle.statistics, getattr(arguments, name), name)
    models = proxies(arguments, bundle)
    require_writable_folder(arguments.out)
    _claim(arguments, bundle)
    mask_ratio, initialisation = arguments.start, "heuristic"
    rows: list[dict[str, Any]] = []
    images, num_updates, trained = 0, 0, set[str]()
    for turn in range(arguments.turns):
        folder = arguments.out / f"turn{turn}"
        model = models.trained(mask_ratio.name)
        found = search.search(_search(arguments, folder / "generation", initialisation), model)
        initialisation = str(folder / "generation" / search.SCHEDULE)
        schedule = found.best
        objective = ProxyObjective(
            models,
            ScheduledPolicy(schedule),
            arguments.num_steps,
            arguments.evaluation_samples,
            folder / "training",
        )
        mask_ratio, value = greedy_search(objective, mask_ratio)
        images += found.images + len(objective.trials) * arguments.evaluation_samples
        num_updates += found.updates
        trained |= objective.trials.keys()
        rows.append(
            {
                "turn": turn + 1,
                "mask_ratio": mask_ratio.name,
                "frechet_distance": value,
                "images": images,
                "proxy_trainings": len(trained),
                "updates": num_updates,
                "schedule": schedule.table.tolist(),
            }
        )
        write_json(arguments.out / HISTORY, rows)
        schedule.save(arguments.out / search.SCHEDULE)
        if turn and abs(value - rows[-2]["frechet_distance"]) <= arguments.tolerance:
            break
    return rows


def proxies(arguments: Arguments, bundle: Bundle) -> Proxies:
    """The models that an alternation trains, in its sub-folder `proxies`.

    Raises:
        ValueError: the data set is not where it is looked for.
        ImportError: scikit-learn, which has the digits, is not installed.
    """
    data = digits() if arguments.bundle == "digits" else fashion_mnist(arguments.data)
    ids = encode_all(bundle.tokenizer, data.train_images)
    preset = PRESETS[arguments.bundle].transformer
    training = replace(preset, loop=replace(preset.loop, epochs=arguments.epochs))
    folder = arguments.out / "proxies"
    return Proxies(bundle, ids, data.train_labels, training, folder, arguments.seed)


def _search(arguments: Arguments, folder: Path, initialisation: str) -> search.Arguments:
    found = search.Arguments(
        arguments.method,
        out=folder,
        bundle=arguments.bundle,
        num_steps=arguments.num_steps,
        images=arguments.images,
        num_samples=arguments.num_samples,
        seed=arguments.seed,
        threads=arguments.threads,
        finite_differences=FiniteDifferencesConfig(initialisation),
    )
    return replace(found, cma=replace(found.cma, initialisation=initialisation))


def _claim(arguments: Arguments, bundle: Bundle) -> None:
    values = asdict(arguments)
    for name in ("out", "data", "turns", "tolerance", "threads"):
        del values[name]
    identity = json.loads(json.dumps(values | {"fingerprint": bundle.fingerprint}))
    path = arguments.out / CONFIG
    try:
        if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != identity:
            raise ValueError(f"out: {str(arguments.out)!r} holds another alternation")
    except json.JSONDecodeError as error:
        raise ValueError(f"out: {path} is damaged ({error!r}); move it away") from error
    write_json(path, identity)


def main() -> None:
    """Entry point."""
    try:
        arguments = parse(Arguments, "python -m eval.autonat.alternation")
        torch.set_num_threads(arguments.threads)
        rows = alternate(arguments)
    except (ValueError, ImportError) as error:
        raise SystemExit(f"eval.autonat.alternation: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(
            "eval.autonat.alternation: interrupted; the same command goes on"
        ) from None
    for row in rows:
        print(
            f"turn {row['turn']}: {row['mask_ratio']}, FD {row['frechet_distance']:.3f} "
            f"(N = {arguments.evaluation_samples}), {row['images']} images, "
            f"{row['proxy_trainings']} proxy trainings, {row['updates']} updates"
        )
    print(arguments.out / search.SCHEDULE)


if __name__ == "__main__":
    main()
