"""How processes begin: alone, or as a launcher says; and what is refused."""

import subprocess
import sys

import pytest

from nat_env.parallel.launch import started
from nat_env.parallel.processes import ALONE


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)


def refused(device):
    with pytest.raises(ValueError) as caught, started(device):
        pass
    return str(caught.value)


def test_without_a_launcher_one_is_alone(monkeypatch):
    with started("cpu") as processes:
        assert processes == ALONE and processes.is_main
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    with started("cpu") as processes:
        assert processes == ALONE
    assert refused("nonesuch").startswith("device: got 'nonesuch'")


def test_a_launch_that_would_start_one_where_several_were_asked_for_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")  # of --cpu --num_processes 2
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert refused("cpu").startswith("num_processes: accelerate launch --cpu starts one process")


def test_a_device_is_each_processes_own(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    for device in ("cuda:0", "mps", "nonesuch"):
        assert f"got {device!r}, allowed with several processes are cpu and cuda" in refused(device)
    assert "process 1 of this machine, allowed are 1 processes" in refused("cuda")


PROGRAM = """
import sys, torch, torch.distributed as dist
from accelerate import Accelerator
from nat_env.parallel.launch import started
with started("cpu") as processes:
    index, count = processes.index, processes.count
    group = id(dist.group.WORLD)  # a group that is held is not destroyed, and aborts at the exit
    accelerator = Accelerator(cpu=True)
    assert id(dist.group.WORLD) == group and accelerator.num_processes == count == 2
    assert accelerator.process_index == index
    assert processes.gathered(index * 10) == ([0, 10] if index == 0 else [])
    assert processes.from_main(index + 5) == 5
    own = torch.tensor([1.0, index], dtype=torch.float64)
    assert processes.summed(own).tolist() == [2.0, 1.0] and own.tolist() == [1.0, index]
    order = []
    with processes.main_first():
        order.append(index)
    with started("cpu") as inner:  # a part of the work that begins by itself
        assert inner == processes
    assert dist.is_initialized()
    if sys.argv[1] == "ends":
        if index == 1:
            import os
            os._exit(0)
        processes.gathered(None)
assert not dist.is_initialized()
sys.stdout.write(f"process {index} is done\\n")  # in one piece: the other one writes, too
"""


def launched(tmp_path, word):
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words = ["--nproc-per-node", "2", str(script), word]
    return subprocess.run([*command, *words], capture_output=True, text=True)


def test_processes_tell_one_another_and_accelerate_takes_their_group(tmp_path):
    ended = launched(tmp_path, "whole")
    assert ended.returncode == 0, ended.stderr
    assert sorted(ended.stdout.splitlines()) == ["process 0 is done", "process 1 is done"]


def test_a_process_that_has_ended_is_a_closed_connection(tmp_path):
    ended = launched(tmp_path, "ends")
    assert ended.returncode != 0
    assert "ConnectionError: another process has ended, which the launcher names" in ended.stderr
