"""What happens between a command's name and its work: the same for all commands."""

import io
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from nat_env.commands.collisions import check_packages
from nat_env.commands.endings import (
    give_precedence,
    leave_closed_output,
    quiet_but_first,
    sentence_of,
    spoken_by,
    termination_interrupts,
)
from nat_env.commands.threads import available_cores, chosen_threads, keep_memory, waiting


@dataclass(frozen=True)
class Command:
    """Where a command's options and its work are, as `module:name`, imported when needed."""

    options: str
    """A dataclass, or presets: a mapping of names to (about, dataclass or instance); of one in a
    `Choice` such a pair, too. Its module imports nothing heavy, so that --help is quick."""
    run: str
    """A function of the options."""
    interrupted: str = "the same command goes on: {command}"
    """What a user may do after Ctrl+C; options in braces, and the command as it was given."""
    words: str = ""
    """A function that completes the words after the name, or refuses them in a sentence."""


@dataclass(frozen=True)
class Choice:
    """A command that is one of several, by its first word."""

    about: str
    """In its help."""
    parts: Mapping[str, Command]


def run_command(name: str, command: Command | Choice, args: list[str] | None = None) -> None:
    """Parse the options and do the work; what goes wrong ends the program in one sentence.

    Args:
        name: of the command.
        command: what it is.
        args: the words after the name; by default those of the program.

    Raises:
        SystemExit: after --help, and after an error or an interruption, with a sentence about it.
            What no user can do anything about is raised as it is.
    """
    if os.environ.get("NO_COLOR"):  # see no-color.org; tyro reads a variable of its own instead
        os.environ.setdefault("PYTHON_TYRO_ANSI_CODES", "False")
    for stream in (sys.stdout, sys.stderr):  # names of files may be more than they can show
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    os.environ.update(waiting(os.environ))
    chosen, options = None, None
    words = home_expanded(sys.argv[1:] if args is None else args)
    try:
        try:
            with quiet_but_first():
                check_packages()
                refuse_empty(words)
                chosen, options = _parsed(name, command, words)
                _set_up_torch(options)
                with termination_interrupts():
                    load(chosen.run)(options)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        leave_closed_output()
        raise SystemExit(1) from None
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        give_precedence(error)
        if isinstance(error, SystemExit):  # after --help, or an error that has been told
            raise
        known = {"command": shlex.join([name, *words])}
        after = chosen.interrupted.format_map(vars(options) | known) if chosen and options else ""
        sentence = sentence_of(error, options, after)
        if sentence is None:
            raise
        raise SystemExit(f"{name}{spoken_by()}: {sentence}") from None


def home_expanded(words: Sequence[str]) -> list[str]:
    """Words with `~` and `~user` expanded wherever a path may begin, not only at a word's start.

    Shells expand `--out ~/x`, and neither `--out=~/x` nor `policy=~/runs/a`.

    Example:
        >>> home = os.path.expanduser("~")
        >>> home_expanded(["--out=~/x", "a=~/b"]) == [f"--out={home}/x", f"a={home}/b"]
        True
        >>> home_expanded(["--about", "it takes ~5 s", "x~/y"])
        ['--about', 'it takes ~5 s', 'x~/y']
    """
    beginning = re.compile(r'(?<![^=:,"])~[\w.-]*(?=[/":,]|$)')
    return [beginning.sub(lambda found: os.path.expanduser(found[0]), word) for word in words]


def refuse_empty(words: Sequence[str]) -> None:
    """Refuse a word, or an option's value, that is empty: a path of no letters is where one is.

    It is what a shell makes of `--out "$FOLDER"` where no such variable is set.

    Raises:
        ValueError: it says which option.

    Example:
        >>> refuse_empty(["digits", "--out", ""])
        Traceback (most recent call last):
        ValueError: --out: got an empty word, allowed is a value; is a variable not set?
    """
    for before, word in zip(("", *words), words, strict=False):
        option, _, value = word.partition("=")
        if not word or (option.startswith("--") and word != option and not value):
            named = before if before.startswith("--") and not word else option
            told = f"{named}: got" if named else "got"
            raise ValueError(f"{told} an empty word, allowed is a value; is a variable not set?")


def load(place: str) -> Any:
    """What `module:name` stands for."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


def _parsed(name: str, command: Command | Choice, args: list[str]) -> tuple[Command, Any]:
    from nat_env.commands.parsing import parse, parse_one_of

    if isinstance(command, Choice):
        loaded = {word: load(part.options) for word, part in command.parts.items()}
        choices = {
            word: found if isinstance(found, tuple) else ("", found)
            for word, found in loaded.items()
        }
        word, options = parse_one_of(choices, name, args, command.about)
        return command.parts[word], options
    if command.words:
        args = load(command.words)(args)
    asked = load(command.options)
    if isinstance(asked, Mapping):
        return command, parse_one_of(asked, name, args)[1]
    return command, parse(asked, name, args)


def _set_up_torch(options: Any) -> None:
    """Threads and precision, of a command that computes."""
    if not hasattr(options, "threads"):
        return
    import torch
    from threadpoolctl import threadpool_limits

    keep_memory(os.environ)
    threads = options.threads or chosen_threads(os.environ, available_cores())
    if threads is not None:
        torch.set_num_threads(threads)
        threadpool_limits(threads, user_api="blas")  # NumPy's, of Frechet distances
    tf32 = getattr(options, "tf32", False)
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32  # of convolutions, and True where nobody says so
