"""A round of the preset `paper`: in the paper's proportions, its phases told apart."""

import pytest

from eval.bench.measure import measured_apart
from eval.bench.options import QUICK, PaperRoundOptions
from eval.bench.paper_round import configuration, prepared, run

TINY = QUICK["paper_round"]
PHASES = [
    "rollout, transformer", "rollout, tokenizer", "rollout, rest", "policy update",
    "fresh samples, transformer", "fresh samples, tokenizer", "discriminator update",
    "everything else",
]  # fmt: skip


def test_a_round_is_the_papers_but_for_its_size(tmp_path):
    config = configuration(PaperRoundOptions(), tmp_path)
    assert config.rounds == 1
    assert config.epochs == 5 and config.discriminator_updates == 5 and config.fresh_samples
    # 4096 x 8 transitions in 16 minibatches of 2048; 64 x 4 in 16 of 16.
    assert (config.batch_size, config.accumulate) == (16, 16)
    # 1024 real images at each update for 4096 trajectories; 16 for 64.
    assert config.discriminator.batch_size == 16
    with pytest.raises(ValueError, match=r"^trajectories_per_round: got 6, allowed .* of 16"):
        configuration(PaperRoundOptions(trajectories_per_round=6, num_envs=6), tmp_path)


def test_phases_add_up_to_the_round():
    (section,) = run(TINY, repeats=1)
    seconds = {row["phase"]: row["seconds"] for row in section.rows}
    whole = seconds.pop("the round")
    assert sorted(seconds) == sorted(PHASES)
    assert sum(seconds.values()) == pytest.approx(whole)
    assert all(spent > 0 for spent in seconds.values())
    assert "8 environments; 5 gradient steps" in section.note


def test_the_models_are_asked_as_often_as_rollout_and_fresh_samples_take(monkeypatch):
    """The tokenizer once a batch of episodes: 16 in 8 environments, and 5 times 4 fresh ones."""
    from eval.bench import paper_round

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
    prepared(TINY)()
    assert calls.count("rollout, tokenizer") == 2
    assert calls.count("fresh samples, tokenizer") == 5
    assert calls.count("policy update") == 1
    assert calls.count("discriminator update") == 5


def test_a_process_of_its_own_gives_back_what_it_found():
    memory, found = measured_apart(_prepared, 3)
    assert found == 9 and memory.peak >= memory.start > 0


def _prepared(number):
    return lambda: number**2
