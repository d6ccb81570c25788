"""A command that several processes run as one: what all would say is said by the first.

torchrun, accelerate and their like tell each process its number by the environment.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

PRECEDENCE = 5.0
"""Seconds in which the first process may say what is wrong, and its end be noticed."""


def rank() -> int:
    """Which process this is, 0 for the first and for one alone."""
    number, count = (os.environ.get(name, "0") for name in ("RANK", "WORLD_SIZE"))
    return int(number) if number.isdecimal() and count not in ("0", "1") else 0


@contextmanager
def quiet_but_first() -> Iterator[None]:
    """Let what other processes than the first write within go nowhere."""
    if rank() == 0:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def give_precedence(error: BaseException) -> None:
    """Wait, on other processes than the first, whether that fails as well.

    Whoever started them ends the others then, so that one reason stands on the screen, not N.

    Raises:
        SystemExit: the process was interrupted: the first says so.
    """
    if not rank():
        return
    if isinstance(error, KeyboardInterrupt):
        raise SystemExit(1) from None
    time.sleep(PRECEDENCE)


def spoken_by() -> str:
    """What to add to a command's name before a reason: which process it is of, if not the first.

    Example:
        >>> spoken_by()
        ''
    """
    return f" (process {rank()})" if rank() else ""
