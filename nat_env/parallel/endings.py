"""A process that waits for another on the accelerator does not hear that it should end."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

GRACE = 15.0
"""Seconds from SIGTERM on in which a process may end by itself; torchrun takes it away after 30."""


@contextmanager
def ends_soon_after_sigterm(grace: float = GRACE) -> Iterator[None]:
    """End this process `grace` seconds after SIGTERM, if it is then still within the block.

    Python runs a signal's handler when its main thread is back from what it does in C, which it is
    not while it waits for a GPU that waits for another process that has died. A thread hears of the
    signal all the same.

    Outside of the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, told = socket.socketpair()
    told.setblocking(False)
    over = threading.Event()

    def wait() -> None:
        while numbers := heard.recv(1):
            if numbers[0] == signal.SIGTERM:
                if not over.wait(grace):
                    os._exit(128 + signal.SIGTERM)
                return

    before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        told.close()  # an end of file, for the thread
        thread.join()
        heard.close()
