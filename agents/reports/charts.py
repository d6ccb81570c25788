"""What TensorBoard shows first: related scalars in one chart, and hyper-parameters."""

import re
from collections.abc import Iterable

from stable_baselines3.common.logger import HParam, Logger, TensorBoardOutputFormat

from agents.learners.config import TrainConfig
from nat_env.samplers.names import KNOWN

EVALUATION_TAGS = ("eval/frechet_distance", "eval/best_frechet_distance", "time/evaluation")

_CHARTS = {
    "FD": {"latest and best": r"eval/(best_)?frechet_distance"},
    "evaluation": {"class accuracy, precision, recall": r"eval/(class_accuracy|precision|recall)"},
    "reward": {"mean and std": r"reward/(mean|std)", "original": r"reward/original_mean"},
    "discriminator": {
        "loss": r"discriminator/loss",
        "accuracies": r"discriminator/accuracy_(real|fake)",
    },
    **{
        name: {"mean by step": rf"{name}/step\d+_mean", "std by step": rf"{name}/step\d+_std"}
        for name in KNOWN
    },
    "time": {"seconds of each phase": r"time/(rollout|discriminator|policy|evaluation)"},
}

Layout = dict[str, dict[str, list[str | list[str]]]]


def layout(tags: Iterable[str]) -> Layout:
    """The charts of those tags that belong into one, as `add_custom_scalars` takes them.

    Example:
        >>> layout(["reward/std", "reward/mean", "train/loss"])
        {'reward': {'mean and std': ['Multiline', ['reward/std', 'reward/mean']]}}
    """
    known = list(dict.fromkeys(tags))
    found: Layout = {}
    for category, charts in _CHARTS.items():
        for title, pattern in charts.items():
            if shown := [tag for tag in known if re.fullmatch(pattern, tag)]:
                found.setdefault(category, {})[title] = ["Multiline", shown]
    return found


def write_layout(logger: Logger, tags: Iterable[str]) -> None:
    """Have TensorBoard group `tags`."""
    for output in logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            output.writer.add_custom_scalars(layout(tags))


def hyperparameters(config: TrainConfig) -> HParam:
    """The configuration beside FD, whose last values TensorBoard takes from its scalars."""
    flat: dict[str, bool | str | float | None] = {}
    for name, value in config.as_json().items():
        parts = value if isinstance(value, dict) else {"": value}
        for part, number in parts.items():
            simple = isinstance(number, bool | int | float | str) or number is None
            flat[f"{name}.{part}" if part else name] = number if simple else str(number)
    return HParam(flat, dict.fromkeys(EVALUATION_TAGS[:2], float("nan")))
