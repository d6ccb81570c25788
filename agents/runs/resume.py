"""The words of `nat-train`: its preset has to be there, or a run that has all options."""

from collections.abc import Sequence
from pathlib import Path

from agents.learners.config import PRESETS
from agents.runs.repeat import training_command


def completed_words(words: Sequence[str]) -> list[str]:
    """The words after `nat-train`, with `--resume` those that the run began with before them.

    Raises:
        ValueError: no preset, or `--resume` without a run, or beside the preset of another bundle.

    Example:
        >>> completed_words(["--out", "runs/a"])
        Traceback (most recent call last):
        ValueError: preset: got none, choose one of fashion, emoji, digits, custom, paper
    """
    words = list(words)
    if {"-h", "--help"} & set(words):
        return words
    preset = words.pop(0) if words and not words[0].startswith("-") else None
    if preset not in PRESETS and (preset or "--resume" not in words):
        raise ValueError(f"preset: got {preset or 'none'}, choose one of {', '.join(PRESETS)}")
    if "--resume" not in words:
        return [str(preset), *words]
    from agents.runs.checkpoint import load_run_config  # it imports torch

    out = _value(words, "--out")
    if out is None:
        raise ValueError("out: got none, allowed with --resume is the folder of a run")
    config = load_run_config(Path(out))
    other = preset and PRESETS[preset][1].bundle == preset != config.bundle
    if other and _value(words, "--bundle") is None:
        raise ValueError(
            f"preset: got {preset}, allowed with --resume is none: the run in {out!r} is one of "
            f"the bundle {config.bundle!r}"
        )
    return [*training_command(config)[1:], *words]


def _value(words: Sequence[str], option: str) -> str | None:
    """What follows `--option`, or its `=`."""
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
    return None
