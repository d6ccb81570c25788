"""What runs on a GPU, on an emulated one: each check of `on_emulated_gpu/` is a test here.

Their device stays in torch once it is there, so the checks of a file run in a process of their own,
once for all of them: by whichever process of pytest-xdist comes first, while others wait for it.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "tests/on_emulated_gpu").glob("check_*.py"))


def named_checks(file: Path) -> list[str]:
    """Names of the functions that pytest takes for tests."""
    parts = ast.parse(file.read_text("utf-8")).body
    return [p.name for p in parts if isinstance(p, ast.FunctionDef) and p.name.startswith("test_")]


def run_checks(file: Path, report: Path) -> None:
    """Run the checks of `file` in a process of their own; pytest writes `report`."""
    outer = ("PYTEST_", "PY_COLORS")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(outer)}
    words = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--junitxml={report}.part"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, str(file)],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    if not Path(f"{report}.part").is_file():
        raise AssertionError(f"no report: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    Path(f"{report}.part").rename(report)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """One folder for all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "on_emulated_gpu"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize(
    ("file", "name"),
    [
        pytest.param(file, name, id=f"{file.stem}-{name}")
        for file in FILES
        for name in named_checks(file)
    ],
)
def test_on_the_emulated_gpu(file, name, shared_folder):
    report = shared_folder / f"{file.stem}.xml"
    with FileLock(shared_folder / f"{file.stem}.lock"):
        if not report.is_file():
            run_checks(file, report)
    cases = [
        case
        for case in ElementTree.parse(report).iter("testcase")
        if case.get("name", "").split("[")[0] == name
    ]
    assert cases, f"{name} has not run"
    wrong = [p for case in cases for p in case if p.tag in ("failure", "error", "skipped")]
    if wrong:
        pytest.fail("\n".join(f"{p.get('message')}\n{p.text}" for p in wrong), pytrace=False)
