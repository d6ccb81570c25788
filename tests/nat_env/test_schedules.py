"""Schedules: the papers' heuristic worked out by hand, files, and what is refused."""

import json

import numpy as np
import pytest
import torch

from nat_env.decoding.quantities import COLUMNS
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import Schedule, heuristic_schedule

# AdaNAT, appendix F: cos(pi (t + 1) / 2T), 1, lambda (T - t) / T, k (t + 1) / T.
FOUR_STEPS = [
    [0.92388, 1.0, 1.00, 0.25],
    [0.70711, 1.0, 0.75, 0.50],
    [0.38268, 1.0, 0.50, 0.75],
    [0.00000, 1.0, 0.25, 1.00],
]
EIGHT_STEPS = [
    [0.98079, 1.0, 1.000, 0.125],
    [0.92388, 1.0, 0.875, 0.250],
    [0.83147, 1.0, 0.750, 0.375],
    [0.70711, 1.0, 0.625, 0.500],
    [0.55557, 1.0, 0.500, 0.625],
    [0.38268, 1.0, 0.375, 0.750],
    [0.19509, 1.0, 0.250, 0.875],
    [0.00000, 1.0, 0.125, 1.000],
]
GOOD = {name: [0.5, 0.0] for name in COLUMNS} | {"name": "mine"}


@pytest.mark.parametrize("table", [FOUR_STEPS, EIGHT_STEPS])
def test_heuristic_by_hand(table):
    schedule = heuristic_schedule(len(table))
    assert schedule.table.dtype == torch.float32
    assert schedule.num_steps == len(table)
    np.testing.assert_allclose(schedule.table, table, atol=6e-6)
    assert schedule.table[-1, 0] == 0.0


def test_slopes_and_temperature_scale_their_columns():
    schedule = heuristic_schedule(4, remask_slope=3.0, guidance_slope=0.5, sampling_temperature=0.7)
    expected = np.array(FOUR_STEPS) * [1.0, 0.7, 3.0, 0.5]
    np.testing.assert_allclose(schedule.table, expected, atol=6e-6)
    for number in ("3", "0.5", "0.7"):
        assert number in schedule.name


def test_one_step_reveals_all():
    np.testing.assert_allclose(heuristic_schedule(1).table, [[0.0, 1.0, 1.0, 1.0]])


def test_columns_are_those_of_an_action():
    assert COLUMNS == (
        "remask_ratio",
        "sampling_temperature",
        "remask_temperature",
        "guidance_scale",
    )


def test_save_and_load_give_the_same_bits(tmp_path):
    table = torch.rand(7, 4, generator=torch.Generator().manual_seed(0))
    table[0] = torch.tensor([1.0, 1e-30, 1e30, 0.0])
    path = tmp_path / "new" / "schedule.json"
    Schedule(table, "found by search").save(path)
    loaded = Schedule.load(path)
    assert torch.equal(loaded.table, table)
    assert loaded.table.dtype == torch.float32
    assert loaded.name == "found by search"
    values = json.loads(path.read_text())
    assert set(values) == {"name", *COLUMNS}
    np.testing.assert_array_equal(
        np.float32(values["guidance_scale"]), table[:, COLUMNS.index("guidance_scale")]
    )


def test_scheduled_policy_reads_the_row_of_each_step():
    schedule = heuristic_schedule(4)
    actions = ScheduledPolicy(schedule)(torch.zeros(3, 16, 8), torch.tensor([2, 0, 3]))
    np.testing.assert_allclose(actions, np.array(FOUR_STEPS)[[2, 0, 3]], atol=6e-6)


@pytest.mark.parametrize(
    "table",
    [
        torch.zeros(0, 4),
        torch.zeros(4),
        torch.zeros(3, 5),
        torch.zeros(2, 3, 4),
        torch.tensor([[0.5, 1.0, 1.0, torch.nan]]),
        torch.tensor([[0.5, torch.inf, 1.0, 1.0]]),
        torch.tensor([[0.5, 1.0, -0.1, 1.0]]),
        torch.tensor([[-0.5, 1.0, 1.0, 1.0]]),
        torch.tensor([[1.01, 1.0, 1.0, 1.0]]),
    ],
)
def test_bad_tables_are_refused(table):
    with pytest.raises(ValueError, match="table"):
        Schedule(table)


def test_ratio_of_one_is_allowed():
    assert Schedule(torch.tensor([[1.0, 0.0, 0.0, 0.0]])).num_steps == 1


@pytest.mark.parametrize("num_steps", [0, -3])
def test_no_steps_are_refused(num_steps):
    with pytest.raises(ValueError, match="num_steps"):
        heuristic_schedule(num_steps)


@pytest.mark.parametrize(
    "arguments", [{"remask_slope": -1.0}, {"guidance_slope": -1.0}, {"sampling_temperature": -1.0}]
)
def test_negative_parameters_are_refused(arguments):
    with pytest.raises(ValueError, match="table"):
        heuristic_schedule(4, **arguments)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        json.dumps(GOOD)[:-9],
        "[1, 2]",
        "3",
        json.dumps({k: v for k, v in GOOD.items() if k != "guidance_scale"}),
        json.dumps({k: v for k, v in GOOD.items() if k != "name"}),
        json.dumps(GOOD | {"remask_ratio": [0.5]}),
        json.dumps(GOOD | {"remask_ratio": None}),
        json.dumps(GOOD | {"remask_ratio": 0.5}),
        json.dumps(GOOD | {"remask_ratio": "half"}),
        json.dumps(GOOD | {"remask_ratio": ["0.5", "0.0"]}),
        json.dumps(GOOD | {"remask_ratio": [2.0, 0.0]}),
        json.dumps(GOOD | {"guidance_scale": [float("nan"), 0.0]}),
        json.dumps({name: [] for name in COLUMNS} | {"name": "empty"}),
    ],
)
def test_damaged_files_are_refused(tmp_path, text):
    path = tmp_path / "schedule.json"
    path.write_text(json.dumps(GOOD))
    assert Schedule.load(path).num_steps == 2
    path.write_text(text)
    with pytest.raises(ValueError):
        Schedule.load(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(ValueError, match=f"path: .*{path.name}"):
            Schedule.load(path)


def test_autonats_strategy_files_load(tmp_path):
    path = tmp_path / "L-T3_strategy.yaml"
    path.write_text(
        "manual_ratios: [0.9, 0.4]\nmanual_temp: [2.5, 1.5]\n"
        "manual_samp_temp: [2.9, 1.1, 0.7]\nmanual_cfg: [0.0001, 0.9, 1.2]\n"
    )
    schedule = Schedule.load(path)
    expected = [[0.9, 2.9, 2.5, 0.0001], [0.4, 1.1, 1.5, 0.9], [0.0, 0.7, 0.0, 1.2]]
    torch.testing.assert_close(schedule.table, torch.tensor(expected))
    assert schedule.name == "L-T3_strategy"
    made = tmp_path / "made by the file"
    command = f"manual_ratios: !!python/object/apply:os.mkdir ['{made}']"
    for text in ("manual_ratios: [0.9]", "a: [", "- 1", command):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"^path: .* is no strategy of AutoNAT"):
            Schedule.load(path)
    assert not made.exists(), "the file's code was run"
    with pytest.raises(ValueError, match="is no strategy"):
        Schedule.load(tmp_path / "absent.yaml")


def test_a_resampled_schedule_keeps_its_course():
    cosine = heuristic_schedule(64)
    coarse = cosine.resampled(4)
    torch.testing.assert_close(coarse.table[:, [0, 3]], heuristic_schedule(4).table[:, [0, 3]])
    # Twice as many steps reveal the same at every second one.
    source = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    source[-1, 0] = 0.0
    twice = Schedule(source).resampled(6)
    assert twice.num_steps == 6
    torch.testing.assert_close(twice.table[1::2, 0], source[:, 0])
    torch.testing.assert_close(cosine.resampled(64).table, cosine.table)
    with pytest.raises(ValueError, match="num_steps: got 0"):
        cosine.resampled(0)
