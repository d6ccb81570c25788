"""How a command uses its cores: its threads, how they wait for one another, and for memory.

torch's CPU builds for Linux parallelise by GNU OpenMP, whose threads spin for milliseconds at
every barrier before they sleep. Where another program has one of the cores, the thread that runs
spins until the other one's turn comes, again and again: two threads are then several times slower
than one. Spinning for some 20 microseconds costs about 1 % of the speed on a quiet machine, and
loses little beside a busy program, whenever that begins.

Every pass of a network asks for blocks of megabytes. The C library gets them from Linux and gives
them back each time, and Linux fills them with zeros: a tenth of a decoding's time or more. Kept in
the process they cost nothing.
"""

import ctypes
import os
import platform
from collections.abc import Mapping
from pathlib import Path

SPINS = {"GOMP_SPINCOUNT": "1000"}
"""Read by GNU OpenMP when torch is imported."""

_WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")

MOST_THREADS = 4
"""A small machine's worth; `--threads` asks for more."""

_KEPT = ((-3, (2**28, 2**25)), (-1, (2**29,)), (-2, (2**26,)))
"""Of glibc's mallopt(3): blocks up to M_MMAP_THRESHOLD bytes are of the heap (older versions allow
32 MB at most), of whose end M_TRIM_THRESHOLD are kept when free, and which grows by M_TOP_PAD."""

_CGROUPS = Path("/sys/fs/cgroup")


def waiting(environment: Mapping[str, str]) -> dict[str, str]:
    """What to add to the environment before torch is imported; nothing if the user has said it.

    Example:
        >>> waiting({})
        {'GOMP_SPINCOUNT': '1000'}
        >>> waiting({"OMP_WAIT_POLICY": "ACTIVE"})
        {}
    """
    return {} if any(name in environment for name in _WAITING) else dict(SPINS)


def keep_memory(environment: Mapping[str, str]) -> bool:
    """Have glibc keep freed memory for what comes next.

    Args:
        environment: nothing is done where it tunes the allocator already, or loads another one.

    Returns:
        Whether it will.
    """
    tuned = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
    if platform.libc_ver()[0] != "glibc" or any(n.startswith(tuned) for n in environment):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(any(mallopt(name, value) for value in values) for name, values in _KEPT)


def chosen_threads(environment: Mapping[str, str], cores: int) -> int | None:
    """Torch threads where no option names a number; None leaves what `OMP_NUM_THREADS` says.

    Example:
        >>> chosen_threads({}, cores=2), chosen_threads({}, cores=64)
        (2, 4)
        >>> chosen_threads({"OMP_NUM_THREADS": "8"}, cores=64)
    """
    return None if "OMP_NUM_THREADS" in environment else min(cores, MOST_THREADS)


def available_cores(cgroups: Path = _CGROUPS) -> int:
    """Cores that this process may use: by its affinity, and by a container's quota of time.

    Args:
        cgroups: where Linux shows the container's control group, of version 2 or 1.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # of Linux
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = _quota(cgroups)
    return cores if quota is None else max(1, min(cores, int(quota)))


def _quota(cgroups: Path) -> float | None:
    """Cores' worth of time, None without a limit."""
    try:
        if (cgroups / "cpu.max").is_file():
            limit, period = (cgroups / "cpu.max").read_text(encoding="utf-8").split()
        else:
            limit = (cgroups / "cpu" / "cpu.cfs_quota_us").read_text(encoding="utf-8")
            period = (cgroups / "cpu" / "cpu.cfs_period_us").read_text(encoding="utf-8")
        found = float(limit) / float(period)  # of `max` there is none
    except (OSError, ValueError):
        return None
    return found if found > 0 else None  # version 1 has -1 for no limit
