"""Threads, how they wait, kept memory, and in which precision: unless the user has said it."""

import os
import platform
import subprocess
import sys

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from nat_env.commands import command_line
from nat_env.commands.command_line import Command, run_command
from nat_env.commands.threads import available_cores, chosen_threads, keep_memory, waiting


@pytest.fixture
def run(monkeypatch):
    """Run a command with some words: what the work sees of the environment, and its threads."""

    def run(*words):
        seen = {}

        def work(options):
            seen.update(os.environ, threads=torch.get_num_threads())
            seen["products"] = torch.get_float32_matmul_precision()
            seen["convolutions"] = torch.backends.cudnn.allow_tf32

        command = Command("nat_env.commands.computation:DeviceOptions", "builtins:print")
        found = command_line.load
        with monkeypatch.context() as patch:
            for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS"):
                patch.setenv(name, os.environ.get(name, ""))  # to be put back
                patch.delenv(name)
            for name, value in given.items():
                patch.setenv(name, value)
            patch.setattr(command_line, "available_cores", lambda: 3)
            patch.setattr(command_line, "load", lambda p: work if p == command.run else found(p))
            run_command("nat-x", command, list(words))
        return seen

    given: dict[str, str] = {}
    run.given = given
    before = torch.get_num_threads()
    precision = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield run
    torch.set_num_threads(before)
    torch.set_float32_matmul_precision(precision[0])
    torch.backends.cudnn.allow_tf32 = precision[1]


def test_threads_wait_briefly_unless_the_user_has_said_how(run):
    assert run()["GOMP_SPINCOUNT"] == "1000"
    run.given["GOMP_SPINCOUNT"] = "7"
    assert run()["GOMP_SPINCOUNT"] == "7"
    run.given.clear()
    run.given["OMP_WAIT_POLICY"] = "ACTIVE"
    seen = run()
    assert seen["OMP_WAIT_POLICY"] == "ACTIVE" and "GOMP_SPINCOUNT" not in seen


PAGES = """
import resource
import torch
from nat_env.commands.threads import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(12 * 2**20)  # 48 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before, kept = faults(), keep_memory({})
faults()
print(kept, before, faults())
"""


def test_freed_memory_is_kept_for_what_comes_next():
    """Pages that Linux has to give anew, over ten tensors that are freed at once."""
    words = [sys.executable, "-c", PAGES]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    found = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    kept, before, after = found.stdout.split()
    is_glibc = platform.libc_ver()[0] == "glibc"
    assert kept == str(is_glibc)
    # Where other programs fill the memory, one of the ten may be given anew.
    assert not is_glibc or (int(before) > 200 and int(after) < int(before) / 4)


@pytest.mark.parametrize("name", ["MALLOC_TOP_PAD_", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_an_allocator_that_the_user_has_tuned_is_left_alone(name):
    assert not keep_memory({name: "1"})


def test_threads_are_the_cores_unless_the_user_has_said_how_many(run):
    torch.set_num_threads(1)
    assert run()["threads"] == 3
    assert run("--threads", "2")["threads"] == 2
    run.given["OMP_NUM_THREADS"] = "5"
    assert run()["threads"] == 2  # as torch has them
    assert run("--threads", "1")["threads"] == 1


def test_as_many_threads_are_numpys(run):
    """Twelve commands of one thread on a machine of 16 cores waited for 192 of BLAS."""

    def pools():
        return [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]

    with threadpool_limits(2, user_api="blas"):  # which puts back what there was
        run("--threads", "1")
        assert set(pools()) == {1}


def test_what_is_chosen():
    assert waiting({"GOMP_SPINCOUNT": ""}) == waiting({"OMP_WAIT_POLICY": "PASSIVE"}) == {}
    assert [chosen_threads({}, cores) for cores in (1, 2, 4, 5, 128)] == [1, 2, 4, 4, 4]


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, 8),
        ({"cpu.max": "nonsense"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "300000\n"}, 8),
    ],
)
def test_cores_are_those_of_the_process_and_its_container(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cores(tmp_path) == cores


def test_without_affinities_all_cores_count(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_cores(tmp_path) == 6


def test_tf32_is_used_where_it_is_asked_for_alone(run):
    torch.backends.cudnn.allow_tf32 = True  # as torch has it
    seen = run()
    assert (seen["products"], seen["convolutions"]) == ("highest", False)
    seen = run("--tf32")
    assert (seen["products"], seen["convolutions"]) == ("high", True)
