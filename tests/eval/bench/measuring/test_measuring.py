import functools
import math
from pathlib import Path

import pytest
import torch

from eval.bench.measuring.memory import peak_memory
from eval.bench.measuring.phases import Phases
from eval.bench.measuring.timing import by_turns, most_per_second, multiply_adds


def test_works_go_by_turns_once_untimed_and_once_timed():
    calls = []
    works = {name: functools.partial(calls.append, name) for name in "ab"}
    measured = by_turns(works, repeats=3)
    assert calls == ["a", "a", "b", "b"] * 3
    assert list(measured) == ["a", "b"]
    assert [len(one.times) for one in measured.values()] == [3, 3]


def test_seconds_are_of_each_work_by_its_name():
    matrices = {"small": torch.ones(8, 8), "large": torch.ones(512, 512)}
    measured = by_turns({n: functools.partial(torch.mm, m, m) for n, m in matrices.items()}, 5)
    assert measured["large"].median > 3 * measured["small"].median > 0


@pytest.fixture
def clock():
    class Clock:
        now = 0.0

        def takes(self, seconds):
            self.now += seconds

    return Clock()


def test_a_phase_in_another_is_not_counted_twice(clock):
    phases = Phases(lambda: clock.now)
    inner = phases.of("inner", clock.takes)

    def outer():
        inner(2)
        clock.takes(3)
        inner(4)

    timed = phases.of("outer", outer)
    timed()
    timed()
    assert phases.totals == {"inner": 12, "outer": 6}
    assert phases.shares("inner", "outer") == {"inner_share": 2 / 3, "outer_share": 1 / 3}


def test_what_is_watched_is_counted_for_a_while(clock):
    phases = Phases(lambda: clock.now)
    with pytest.raises(RuntimeError), phases.watching(("x", clock, "takes")):
        clock.takes(2)
        raise RuntimeError
    clock.takes(4)
    assert (phases.totals, clock.now) == ({"x": 2}, 6)


def test_marks_are_read_only_when_totals_are_asked_for():
    """As on CUDA, where a mark is an event in the stream, and only its end is waited for."""
    marks = []

    def mark():
        marks.append(len(marks))
        return marks[-1]

    read = []

    def between(started, ended):
        read.append((started, ended))
        return ended - started

    phases = Phases(mark, between)
    phases.of("outer", lambda: phases.of("inner", int)())()
    assert marks == [0, 1, 2, 3] and not read
    assert phases.totals == {"inner": 1, "outer": 2}
    assert read == [(1, 2), (0, 3)]


def test_without_an_untimed_call_each_is_called_once_a_turn():
    calls = []
    measured = by_turns({"a": lambda: calls.append("a")}, repeats=3, untimed=False)
    assert calls == ["a"] * 3 and len(measured["a"].times) == 3


def test_multiply_adds_are_told_apart_by_phase():
    def work(phases):
        query = torch.ones(2, 3, 5, 4)
        attention = torch.nn.functional.scaled_dot_product_attention
        phases.of("attention", attention)(query, query, query)
        phases.of("product", torch.mm)(torch.ones(2, 3), torch.ones(3, 7))
        torch.mm(torch.ones(9, 9), torch.ones(9, 9))  # in no phase

    assert multiply_adds(work) == {"attention": 2 * 2 * 3 * 5 * 5 * 4, "product": 2 * 3 * 7}


def test_the_ceiling_is_the_best_of_the_sizes():
    most_per_second.cache_clear()
    both = most_per_second(torch.float32, (4, 256))
    assert both > 10 * most_per_second(torch.float32, (4,))
    assert 1e8 < both < 1e14


def test_peak_memory_is_that_of_the_work_alone():
    ballast = torch.ones(2**26)  # 256 MB of this process's own
    memory = peak_memory(functools.partial, torch.ones, 25 * 2**20)
    assert memory.peak == pytest.approx(memory.start + memory.rise, nan_ok=True)
    if Path("/proc/self/status").is_file():
        assert 100 <= memory.rise < 150
    else:  # where only Linux would tell it
        assert math.isnan(memory.rise)
    del ballast
