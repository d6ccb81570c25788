"""What a command says when it cannot go on: a sentence, where the user can do something.

Of several processes that run one command the first says what all would say. torchrun, accelerate
and their like tell each its number by the environment, before options or devices are known.
"""

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any

_MEMORY_OPTIONS = ("num_envs", "batch_size")
"""Options of commands that less memory is needed with less of."""

PRECEDENCE = 5.0
"""Seconds in which the first process may say what is wrong, and its end be noticed."""


def sentence_of(error: BaseException, options: Any = None, afterwards: str = "") -> str | None:
    """What to tell the user; None of a programming error, whose traceback belongs on the screen.

    Args:
        error: that ended the work.
        options: of the command, where they had been understood.
        afterwards: what the user may do when the reason is gone, such as "the same command goes
            on".

    Example:
        >>> sentence_of(OSError(28, "No space left on device", "x"), afterwards="call it again")
        "[Errno 28] No space left on device: 'x'; make room, then call it again"
        >>> sentence_of(KeyError("bug"))
    """
    then = f"; {afterwards}" if afterwards else ""
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted{then}"
    if isinstance(error, ConnectionError):
        return f"{error}{then}"
    if _is_full_disk(error):
        return f"{error}; make room{', then ' if afterwards else ''}{afterwards}"
    if _is_out_of_memory(error):
        names = [f"--{o.replace('_', '-')}" for o in _MEMORY_OPTIONS if hasattr(options, o)]
        return f"out of memory{'; choose a smaller ' if names else ''}{' or '.join(names)}"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{error}; choose a shorter path"
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return f"{error}; choose a folder that can be written"
    if isinstance(error, ValueError | ImportError | OSError) or _is_of_safetensors(error):
        return str(error)
    return None


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """Let SIGTERM, with which batch systems and containers end a program, act as Ctrl+C does.

    What a command saves when it is interrupted is saved then, too. Processes forked within end at
    it as they did before. Outside of the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def interrupt(number: int, frame: Any) -> None:
        if os.getpid() == owner:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def leave_closed_output() -> None:
    """Let what Python still writes at its end go nowhere: who read the output has gone."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def rank() -> int:
    """Which process this is, 0 for the first and for one alone."""
    number, count = (os.environ.get(name, "0") for name in ("RANK", "WORLD_SIZE"))
    return int(number) if number.isdecimal() and count not in ("0", "1") else 0


@contextmanager
def quiet_but_first() -> Iterator[None]:
    """Let what other processes than the first print within, bars included, go nowhere."""
    if rank() == 0:
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):
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


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return _is_of_safetensors(error) and "No space left" in str(error)


def _is_out_of_memory(error: BaseException) -> bool:
    """Python's, an accelerator's, or that of torch on a CPU, which has no class of its own."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    )


def _is_of_safetensors(error: BaseException) -> bool:
    """Told by its name, so that help needs no import."""
    return type(error).__name__ == "SafetensorError"
