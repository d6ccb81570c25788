"""The machine that a result was computed on."""

import os
import platform
from pathlib import Path
from typing import Any

import torch


def machine() -> dict[str, Any]:
    """What seconds and the last digits of results depend on.

    The accelerator is the one that torch would use; whether it was, a result's device says.
    """
    return {
        "processor": cpu_name() or platform.processor() or platform.machine(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "accelerator": accelerator_name(),
        "tf32": torch.get_float32_matmul_precision() != "highest",
    }


def accelerator_name() -> str | None:
    """The model of the first CUDA device, `mps`, or None."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "mps" if torch.backends.mps.is_available() else None


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """The model's name as Linux gives it, None where it does not."""
    if not cpuinfo.is_file():
        return None
    lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), None)
