"""Code of a user's own, which a command line names by `module:name`."""

import json
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

_HOME = Path(__file__).resolve().parents[2]


def is_own(name: str) -> bool:
    """Whether a name is `module:name`.

    Example:
        >>> is_own("my_module:Novelty"), is_own("judge"), is_own('{"name": "clip"}')
        (True, False, False)
    """
    return ":" in name and not name.startswith("{")


def name_or_object(text: str, argument: str) -> Any:
    """A name as it is, and of a JSON object, a name with options, what it holds.

    Raises:
        ValueError: it begins as a JSON object and is none.

    Example:
        >>> name_or_object("judge", "reward"), name_or_object('{"name": "clip"}', "reward")
        ('judge', {'name': 'clip'})
    """
    if not text.startswith("{"):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{argument}: got {text!r}, allowed is a name or a JSON object ({error})"
        ) from error


def imported(name: str, argument: str) -> Any:
    """What `module:name` stands for; the working directory is looked through last.

    Args:
        name: of a module, and of what is in it.
        argument: what the user calls it, for messages.

    Raises:
        ValueError: no name of this form, or a module that is not there, fails or has no such name;
            the message says which, and where.

    Example:
        >>> imported("math:tau", "number")
        6.283185307179586
        >>> imported("./math:tau", "number")
        Traceback (most recent call last):
        ValueError: number: got './math:tau', allowed is module:name, no path of a file
    """
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(f"{argument}: got {name!r}, allowed is module:name, no path of a file")
    if os.getcwd() not in sys.path:  # where a command's user keeps a module
        sys.path.append(os.getcwd())
    try:
        found = import_module(module)
    except (Exception, SystemExit) as error:  # whatever the module's own lines raise
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise ValueError(
                f"{argument}: got {name!r}, but there is no module {error.name!r}, neither "
                f"installed nor in {os.getcwd()}"
            ) from error
        raise ValueError(f"{argument}: got {name!r}, which fails {raised(error)}") from error
    if not hasattr(found, attribute):
        own = [
            key
            for key, value in vars(found).items()
            if getattr(value, "__module__", None) == module and key[0] != "_"
        ]
        raise ValueError(
            f"{argument}: got {name!r}, but {getattr(found, '__file__', module)} has no "
            f"{attribute!r}, "
            f"allowed are {', '.join(own) or 'none: it defines nothing'}"
        )
    return getattr(found, attribute)


def raised(error: BaseException) -> str:
    """What the user's lines raised, and the first of them."""
    what = f"with {type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return f"in {error.filename}, line {error.lineno} {what}"
    for frame in traceback.extract_tb(error.__traceback__):
        if not _is_ours(frame.filename) and "importlib" not in frame.filename:
            return f"in {frame.filename}, line {frame.lineno} {what}"
    return what


def _is_ours(file: str) -> bool:
    """Whether a line of it only calls the user's."""
    path = Path(file)
    return path.is_relative_to(_HOME) and path.relative_to(_HOME).parts[0] in ("nat_env", "agents")
