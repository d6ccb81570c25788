"""The device is there in the process that runs the checks, and `recorded` counts its waits."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def _emulated_gpu() -> Any:
    folder = str(Path(__file__).parents[1])
    sys.path.insert(0, folder)
    module = importlib.import_module("emulated_gpu")
    sys.path.remove(folder)
    module.install()
    return module


@pytest.fixture(scope="session")
def recorded(_emulated_gpu: Any) -> Callable[[], Any]:
    """The function of `emulated_gpu`."""
    return _emulated_gpu.recorded
