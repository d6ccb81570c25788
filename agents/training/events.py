"""What a full disk, an interruption and TensorBoard's thread ask of who writes events."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from nat_env.storage.files import WriteError


def forget_after(folder: Path, step: int) -> None:
    """Have TensorBoard show nothing after `step` of the files that are in `folder` now.

    A run that was killed goes on from its latest state, and comes by the rounds after it again.
    """
    SummaryWriter(str(folder), purge_step=step + 1).close()


@contextmanager
def quiet_writer() -> Iterator[None]:
    """Let TensorBoard's thread fail without a traceback: who writes next gets its error."""
    shown = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not isinstance(args.exc_value, OSError):
            shown(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = shown


@contextmanager
def hint(folder: Path, after: str) -> Iterator[None]:
    """Say of a disk that fails which folder is meant, and how it is `after` that.

    Raises:
        OSError: the block raised one.
    """
    try:
        yield
    except WriteError as error:  # which says what helps
        raise OSError(f"{error}; what is there is whole: {after}") from error
    except OSError as error:
        raise OSError(
            f"cannot go on in {str(folder)!r} ({error}); what is there is whole: make room on its "
            f"disk, or make it writable; {after}"
        ) from error
