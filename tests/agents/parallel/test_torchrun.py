"""The command under torchrun: one reason where it is refused, one name where a process dies."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agents.runs.checkpoint import load_run_config
from agents.training.train import Training
from nat_env.storage.claims import locked
from nat_env.storage.state import load_state

OPTIONS = """--num-steps 2 --trajectories-per-round 32 --num-envs 16 --hidden-size 8 --batch-size 32
    --reward judge --eval-every 0 --save-every-seconds 0"""

TELLS_ITS_NUMBER = """
import os, runpy, sys
from pathlib import Path
Path(sys.argv[1], os.environ["RANK"]).write_text(str(os.getpid()))
del sys.argv[1]
sys.argv[1:1] = ["nat-train"]
runpy.run_module("nat_env", run_name="__main__")
"""


@pytest.fixture
def torchrun(tmp_path):
    """Begin two processes of nat-train; their numbers are in files named 0 and 1."""
    script = tmp_path / "script.py"
    script.write_text(TELLS_ITS_NUMBER)
    begun = []

    def begin(*words):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", "2", str(script), str(tmp_path), "digits", *OPTIONS.split()]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [*command, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        if process.poll() is None:
            process.terminate()
            process.communicate()


def rounds(folder):
    try:
        return load_state(folder / "state.safetensors")["callback"]["rounds"]
    except ValueError:  # it is not there yet
        return 0


@pytest.mark.parametrize("rank", [1])
def test_a_process_that_dies_ends_all_and_is_named_and_the_run_goes_on(torchrun, tmp_path, rank):
    out = tmp_path / "run"
    process = torchrun("--out", str(out), "--budget", str(32 * 100_000))
    while rounds(out) < 2 and process.poll() is None:
        time.sleep(0.5)
    os.kill(int((tmp_path / str(rank)).read_text()), signal.SIGKILL)
    said, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert re.search(rf"rank\s*: {rank} .*\n\s*exitcode\s*: -9", said), said
    (sentence,) = re.findall(r"^nat-train: .*$", said, re.MULTILINE)
    assert "--resume" in sentence
    for pid in (int((tmp_path / name).read_text()) for name in "01"):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with locked(out):
        done = rounds(out)
    kept = {"config.json", "last.safetensors", "report.md", "state.safetensors", "tensorboard"}
    assert {path.name for path in out.iterdir()} == kept
    stored = json.loads((out / "config.json").read_text())
    assert stored["config"]["num_envs"] == 16
    config = load_run_config(out)
    config = replace(config, resume=True, budget=(done + 1) * 32)
    Training(config, progress=False).run()
    assert rounds(out) == done + 1


def test_what_is_refused_is_told_once_and_nothing_is_written(torchrun, tmp_path):
    out = tmp_path / "run"
    said, _ = (process := torchrun("--out", str(out), "--algo", "trpo")).communicate(timeout=120)
    assert process.returncode != 0 and not out.exists()
    told = re.findall(r"^nat-train.*$", said, re.MULTILINE)
    assert told == [
        "nat-train: algo: got 'trpo' in 2 processes, allowed is one: its parameters never hold the "
        "gradients that its step comes of"
    ]
    assert str(Path("agents/training/train.py")) not in said  # no traceback of ours
