"""A round of the preset `paper`: in the paper's proportions, its phases told apart."""

import pytest

from eval.bench import paper_round
from eval.bench.measuring.memory import Memory, measured_apart
from eval.bench.options import QUICK, PaperRoundOptions
from eval.bench.paper_round import configuration

TINY = QUICK["paper_round"]
PHASES = [
    "rollout, transformer", "rollout, tokenizer", "rollout, rest", "policy update",
    "fresh samples, transformer", "fresh samples, tokenizer", "discriminator update",
    "everything else",
]  # fmt: skip


def test_a_round_is_the_papers_but_for_its_size(tmp_path):
    config = configuration(PaperRoundOptions(), 64, tmp_path)
    assert config.rounds == 1
    assert config.epochs == 5 and config.discriminator_updates == 5 and config.fresh_samples
    # 4096 x 8 transitions in 16 minibatches of 2048; 64 x 4 in 16 of 16.
    assert (config.batch_size, config.accumulate) == (16, 16)
    # 1024 real images at each update for 4096 trajectories; 16 for 64.
    assert config.discriminator.batch_size == 16
    with pytest.raises(ValueError, match=r"^trajectories: got 6, allowed .* of 16"):
        configuration(PaperRoundOptions(), 6, tmp_path)


def test_phases_add_up_to_the_round_and_are_told_apart_by_what_they_are_for(monkeypatch):
    """The tokenizer is asked once a batch of episodes: 16 in 8 environments, 5 times 4 fresh ones.

    In this process, where calls can be counted.
    """
    calls = []
    whole = paper_round.Phases

    class Counting(whole):
        def of(self, name, function):
            timed = super().of(name, function)

            def counted(*args, **kwargs):
                calls.append(name)
                return timed(*args, **kwargs)

            return counted

    monkeypatch.setattr(paper_round, "Phases", Counting)
    monkeypatch.setattr(
        paper_round, "measured_apart", lambda work, *given: (Memory(1.0, 2.0), work(*given)())
    )
    (section,) = paper_round.run(TINY, repeats=1)
    seconds = {row["phase"]: row["seconds"] for row in section.rows}
    round_seconds = seconds.pop("the round")
    assert sorted(seconds) == sorted(PHASES)
    assert sum(seconds.values()) == pytest.approx(round_seconds)
    assert all(spent > 0 for spent in seconds.values())
    assert "8 environments; 5 gradient steps" in section.note
    assert calls.count("rollout, tokenizer") == 2
    assert calls.count("fresh samples, tokenizer") == 5
    assert calls.count("policy update") == 1
    assert calls.count("discriminator update") == 5


def test_a_process_of_its_own_gives_back_what_it_found():
    memory, found = measured_apart(_prepared, 3)
    assert found == 9 and memory.peak >= memory.start > 0


def _prepared(number):
    return lambda: number**2
