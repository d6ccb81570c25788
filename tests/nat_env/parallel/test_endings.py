"""Ends that Python alone would not hear of."""

import signal
import subprocess
import sys


def test_a_process_that_is_not_heard_in_c_ends_all_the_same():
    """Where Python's own handler of the signal would wait for the sleeper to end."""
    program = """
import ctypes, signal
from nat_env.parallel.endings import ends_soon_after_sigterm
signal.signal(signal.SIGTERM, lambda *_: print("never"))
with ends_soon_after_sigterm(0.2):
    # Said from within C: from then on Python's handler waits.
    ctypes.CDLL(None).system(b"echo ready; exec sleep 20 > /dev/null")
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=10)
    assert (process.returncode, said) == (128 + signal.SIGTERM, "")
