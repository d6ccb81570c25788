"""Options of the commands, from the command line."""

import os
from collections.abc import Mapping
from typing import Any, TypeVar

import tyro

T = TypeVar("T")


def parse(kind: type[T], prog: str, **options: Any) -> T:
    """Options of a command as its dataclass; an error or --help ends the program.

    Args:
        kind: the dataclass.
        prog: what the command is called.
        **options: of `tyro.cli`.
    """
    _obey_no_color()
    return tyro.cli(kind, prog=prog, **options)


def parse_preset(presets: Mapping[str, tuple[str, T]], prog: str) -> T:
    """One of several presets by name, with options in place of its values.

    Args:
        presets: a description and the preset, by name.
        prog: what the command is called.
    """
    _obey_no_color()
    return tyro.extras.overridable_config_cli(dict(presets), prog=prog)


def _obey_no_color() -> None:
    """See no-color.org; tyro has an option of its own instead."""
    if os.environ.get("NO_COLOR"):
        tyro._experimental_options["ansi_codes"] = False
