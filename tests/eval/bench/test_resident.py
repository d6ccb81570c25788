"""The part `memory`."""

import pytest

from eval.bench import resident, training
from eval.bench.measuring.memory import Memory
from eval.bench.options import MemoryOptions

OPTIONS = MemoryOptions("digits", rounds=8, trajectories_per_round=8, images=(1000, 50_000))


def test_the_slope_is_of_all_rounds_but_the_first_quarter(monkeypatch):
    found = [100.0, 500.0, *(600.0 + 0.02 * n for n in range(6))]
    monkeypatch.setattr(
        resident, "measured_apart", lambda prepare, config: (Memory(1.0, 2.0), found)
    )
    section = resident.over_rounds(OPTIONS)
    assert section.targets[0]["measured"] == pytest.approx(2.0)  # MB per 100 rounds
    assert "NOT" in section.targets[0]["verdict"]
    assert [row["round"] for row in section.rows] == [1, 3, 5, 8]


def test_every_round_of_a_training_is_told(tmp_path):
    from dataclasses import replace

    from eval.bench.options import TrainOptions

    config = training.configuration(TrainOptions("digits", 8))
    config = replace(config, out=tmp_path / "run", budget=3 * 8, eval_every=0)
    found = resident.prepared_rounds(config)()
    assert len(found) == 3 and min(found) > 100


def test_what_is_kept_of_each_image_is_not_growth(monkeypatch):
    def measured(rises):
        def apart(prepare, bundle, count, device):
            assert (bundle, device) == ("digits", "cpu")
            return Memory(100.0, 100.0 + rises[count]), count / 200

        monkeypatch.setattr(resident, "measured_apart", apart)
        return resident.over_images(OPTIONS)

    kept = 16 * 49_000 / 2**20
    section = measured({1000: 10.0, 50_000: 12.0 + kept})
    assert section.targets[0]["measured"] == pytest.approx(2.0)
    assert [row["images_per_second"] for row in section.rows] == [200, 200]
    assert "NOT" in measured({1000: 10.0, 50_000: 500.0}).targets[0]["verdict"]


def test_an_evaluation_takes_its_time():
    assert 0 < resident.prepared_images("digits", 200, "cpu")() < 600
