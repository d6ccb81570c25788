"""The command that repeats a training: a preset, and the options that differ from it."""

from dataclasses import fields, is_dataclass
from typing import Any

from agents.learners.config import PRESETS, TrainConfig


def training_command(config: TrainConfig) -> list[str]:
    """The words of the shortest `nat-train` command for `config`, without `--resume`.

    Example:
        >>> from pathlib import Path
        >>> digits = {"bundle": "digits", "budget": 20_480, "hidden_size": 64}
        >>> config = TrainConfig(Path("runs/a"), **digits)
        >>> training_command(config)[:4], len(training_command(config))
        (['nat-train', 'digits', '--out', 'runs/a'], 6)
    """
    options = {
        name: _differing(config, preset)
        for name, (_, preset) in PRESETS.items()
        if preset.bundle != name or name == config.bundle  # not the preset of another bundle
    }
    name = min(options, key=lambda name: len(options[name]))
    return ["nat-train", name, "--out", str(config.out), *options[name]]


def _differing(config: Any, preset: Any, prefix: str = "--") -> list[str]:
    words: list[str] = []
    for field in fields(config):
        value, name = getattr(config, field.name), field.name.replace("_", "-")
        if field.name in ("out", "resume") or value == getattr(preset, field.name):
            continue
        if is_dataclass(value):
            words += _differing(value, getattr(preset, field.name), f"--{name}.")
        elif isinstance(value, bool):
            words.append(prefix + ("" if value else "no-") + name)
        elif isinstance(value, dict):
            words += [prefix + name, *(str(word) for pair in value.items() for word in pair)]
        elif isinstance(value, tuple):
            words += [prefix + name, *map(str, value)]
        else:
            words += [prefix + name, str(value)]
    return words
