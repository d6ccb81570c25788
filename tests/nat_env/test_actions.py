"""The map between the box [-1, 1]^4 and the physical quantities, against closed forms."""

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from nat_env.actions import RAW_SCALE, ActionMap
from nat_env.decoding.quantities import COLUMNS
from nat_env.samplers.confidence_map import ConfidenceMap
from nat_env.samplers.entropy_bound import EntropyBound
from nat_env.samplers.halton import Halton
from nat_env.samplers.remdm import ReMDM
from nat_env.schedules import (
    Schedule,
    authors_schedule,
    heuristic_schedule,
    residual_schedule,
)

TABLE = Schedule(
    torch.tensor([[0.9, 0.5, 3.0, 0.0], [0.5, 1.5, 0.2, 1.0], [0.0, 2.5, 1e-3, 8.0]]), "mine"
)


def random_actions(size, seed=0):
    actions = np.random.default_rng(seed).uniform(-1, 1, (size, 4)).astype(np.float32)
    actions[:3] = np.float32([[-1] * 4, [1] * 4, [0] * 4])[:size]
    return torch.from_numpy(actions)


def softplus(x):
    return np.log1p(np.exp(x))


def inverse_softplus(y):
    return np.log(np.expm1(y))


def test_scale_covers_what_the_documentation_says():
    assert RAW_SCALE == 5.0
    corners = ActionMap().physical(torch.tensor([[-1.0] * 4, [1.0] * 4]), torch.tensor([0, 0]))
    np.testing.assert_allclose(corners[0], [0.006693, 0.006715, 0.006715, 0.006715], rtol=1e-3)
    np.testing.assert_allclose(corners[1], [0.993307, 5.006715, 5.006715, 5.006715], rtol=1e-6)


def test_physical_values_are_sigmoid_and_softplus():
    actions = random_actions(100)
    raw = 5 * actions.double().numpy()
    physical = ActionMap().physical(actions, torch.zeros(100, dtype=torch.int64))
    assert physical.dtype == torch.float32
    np.testing.assert_allclose(physical[:, 0], expit(raw[:, 0]), rtol=1e-5)
    np.testing.assert_allclose(physical[:, 1:], softplus(raw[:, 1:]), rtol=1e-5)


def test_without_residual_the_step_does_not_matter():
    actions = random_actions(12)
    first = ActionMap().physical(actions, torch.zeros(12, dtype=torch.int64))
    assert torch.equal(first, ActionMap().physical(actions, torch.arange(12)))


def test_residual_is_added_before_the_activations():
    actions, steps = random_actions(60), torch.arange(60) % 3
    table = TABLE.table.double().numpy()[steps]
    raw = 5 * actions.double().numpy()
    ratio = expit(raw[:, 0] + logit(np.clip(table[:, 0], 1e-7, 1 - 1e-7)))
    others = softplus(raw[:, 1:] + inverse_softplus(np.maximum(table[:, 1:], 1e-7)))
    physical = ActionMap(TABLE).physical(actions, steps)
    np.testing.assert_allclose(physical[:, 0], ratio, rtol=1e-4)
    np.testing.assert_allclose(physical[:, 1:], others, rtol=1e-4)


@pytest.mark.parametrize("num_steps", [1, 4, 8, 16])
def test_zero_is_the_residual_schedule(num_steps):
    schedule = heuristic_schedule(num_steps, 0.7, 1.3, 0.8)
    steps = torch.arange(num_steps)
    physical = ActionMap(schedule).physical(torch.zeros(num_steps, 4), steps)
    # 0 itself cannot be reached by a sigmoid: 1e-7 stands for it, which masks no token.
    np.testing.assert_allclose(physical, schedule.table, rtol=1e-6, atol=1.01e-7)
    for num_tokens in (16, 49, 256):
        counts = (physical[:, 0] * num_tokens).floor()
        assert torch.equal(counts, (schedule.table[:, 0] * num_tokens).floor())


@pytest.mark.parametrize("num_tokens", [16, 49, 256])
def test_zero_re_masks_as_many_tokens_as_the_residual_schedule(num_tokens):
    ratios = torch.arange(1, num_tokens) / num_tokens
    table = torch.ones(num_tokens, 4)
    table[:-1, 0], table[-1, 0] = ratios, 0.0
    found = ActionMap(Schedule(table)).physical(
        torch.zeros(num_tokens, 4), torch.arange(num_tokens)
    )
    counts = (num_tokens * found[:-1, 0]).floor().int().tolist()
    assert counts == (num_tokens * ratios).floor().int().tolist()


def test_what_no_correction_moves_is_named():
    """From 1e-7, raw -16, a box of 5 goes to 1.7e-5, one of 20 to 4: both ends of m alike."""
    table = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.5, 0.0, 0.3, 1e-3], [0.0, 0.5, 0.0, 0.0]])
    stuck = ["remask_ratio at step 1", "guidance_scale at step 1", "sampling_temperature at step 2"]
    stuck += ["guidance_scale at step 3"]  # m and tau_2 have no effect there
    assert ActionMap(Schedule(table)).out_of_reach == stuck
    guided = ActionMap(Schedule(table), quantities=("guidance_scale",))
    assert guided.out_of_reach == [stuck[1], stuck[3]]
    for free in (ActionMap(Schedule(table), 20.0), ActionMap(heuristic_schedule(4)), ActionMap()):
        assert free.out_of_reach == []


def test_steps_after_the_end_take_the_last_row():
    actions = random_actions(2)
    late = ActionMap(TABLE).physical(actions, torch.tensor([3, 99]))
    assert torch.equal(late, ActionMap(TABLE).physical(actions, torch.tensor([2, 2])))


@pytest.mark.parametrize("residual", [None, TABLE])
def test_actions_invert_physical(residual):
    mapping = ActionMap(residual)
    actions, steps = random_actions(200, seed=1) * 0.9, torch.arange(200) % 3
    physical = mapping.physical(actions, steps)
    inside = ((physical > 1.1e-4) & torch.cat([physical[:, :1] < 1 - 1.1e-4] * 4, 1)).numpy()
    assert inside.mean() > 0.8
    back = mapping.actions(physical, steps)
    np.testing.assert_allclose(back.numpy()[inside], actions.numpy()[inside], atol=2e-4)


def test_actions_by_hand():
    physical = torch.tensor([[0.5, np.log(2.0), np.log(2.0), np.log(1 + np.e)]])
    actions = ActionMap().actions(physical.float(), torch.tensor([0]))
    np.testing.assert_allclose(actions, [[0.0, 0.0, 0.0, 0.2]], atol=1e-6)


def test_what_lies_outside_the_box_is_clipped():
    physical = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 100.0, 5.5, 1e6], [0.999, 5.1, 6, 0.001]])
    actions = ActionMap().actions(physical, torch.tensor([0, 0, 0]))
    assert actions.tolist() == [[-1.0] * 4, [1.0] * 4, [1.0, 1.0, 1.0, -1.0]]


@pytest.mark.parametrize("raw_scale", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("std", [0.001, 0.06, 0.32, 1.5])
def test_mean_physical_is_the_integral_over_the_clipped_gaussian(std, raw_scale):
    """Also at the edges of the box, where the clip is a kink, and beyond them."""
    mapping = ActionMap(TABLE, raw_scale)
    actions, steps = random_actions(20), torch.arange(20) % 2
    actions[:3] = torch.tensor([[-1.0], [1.0], [1.0 + 3 * std]])
    noise = np.linspace(-7, 7, 4001)
    density = np.exp(-(noise**2) / 2)
    density /= density.sum()
    around = np.clip(actions.double().numpy()[:, None] + std * noise[:, None], -1, 1)
    moved = torch.from_numpy(around).flatten(0, 1)  # [20 * noise, 4]
    physical = mapping.physical(moved, steps.repeat_interleave(len(noise)))
    expected = np.einsum("bzq,z->bq", physical.view(20, -1, 4).numpy(), density)
    mean = mapping.mean_physical(actions, std, steps)
    assert mean.dtype == torch.float32
    np.testing.assert_allclose(mean, expected, atol=2e-5 * raw_scale, rtol=1e-5)
    each = mapping.mean_physical(actions, torch.full((20, 4), std), steps)
    torch.testing.assert_close(each, mean)


def test_a_larger_scale_reaches_further():
    """MUSE's guidance for CC3M is 10."""
    mapping = ActionMap(raw_scale=20.0)
    corners = mapping.physical(torch.tensor([[-1.0] * 4, [1.0] * 4]), torch.tensor([0, 0]))
    np.testing.assert_allclose(corners, [[0, 0, 0, 0], [1, 20, 20, 20]], atol=1e-7)
    wanted = torch.tensor([[0.5, 8.0, 12.0, 10.0]])
    action = mapping.actions(wanted, torch.tensor([0]))
    torch.testing.assert_close(mapping.physical(action, torch.tensor([0])), wanted)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="raw_scale: got"):
            ActionMap(raw_scale=wrong)


def test_small_values_of_a_residual_schedule_are_kept():
    table = torch.tensor([[1e-5, 1e-5, 0.0, 1e-5], [0.0, 3e-6, 1e-4, 0.0], [0.3, 1.0, 2e-5, 0.5]])
    found = ActionMap(Schedule(table)).physical(torch.zeros(3, 4), torch.arange(3))
    np.testing.assert_allclose(found, table, atol=1e-6)


@pytest.mark.parametrize("num_steps", [4, 8, 16])
def test_zero_is_the_authors_table(num_steps):
    """Their formulas by hand: rho = (t + 1 - 0.001) / T, w = (t + 0.001) / T."""
    found = ActionMap(authors_schedule(num_steps)).physical(
        torch.zeros(num_steps, 4), torch.arange(num_steps)
    )
    for t in range(num_steps):
        rho = (t + 0.999) / num_steps
        row = [np.cos(np.pi / 2 * rho), 1.0, 1 - rho, (t + 0.001) / num_steps]
        np.testing.assert_allclose(found[t], row, atol=1e-6)
    assert torch.equal(
        residual_schedule("authors", num_steps, 16).table, authors_schedule(num_steps).table
    )


@pytest.mark.parametrize("names", [("guidance_scale",), ("remask_temperature", "remask_ratio")])
def test_what_is_not_decided_is_the_residuals(names):
    """Numbers of an action stand in the order of the names, wherever the columns are."""
    mapping, whole = ActionMap(TABLE, quantities=names), ActionMap(TABLE)
    actions, steps = random_actions(30)[:, : len(names)], torch.arange(30) % 3
    columns = [COLUMNS.index(name) for name in names]
    wide = torch.zeros(30, 4)
    for number, column in enumerate(columns):
        wide[:, column] = actions[:, number]
    physical = mapping.physical(actions, steps)
    assert torch.equal(physical[:, columns], whole.physical(wide, steps)[:, columns])
    others = [column for column in range(4) if column not in columns]
    assert torch.equal(physical[:, others], TABLE.table[steps][:, others])
    again = mapping.physical(mapping.actions(physical, steps), steps)
    torch.testing.assert_close(again, physical, atol=1e-5, rtol=1e-4)
    spread = torch.zeros(30, 4)
    spread[:, columns] = 0.3
    expected = whole.mean_physical(wide, spread, steps)
    found = mapping.mean_physical(actions, 0.3, steps)
    torch.testing.assert_close(found, expected, atol=2e-7, rtol=1e-6)
    assert mapping.idle_at_last == tuple(name.startswith("remask") for name in names)


def test_what_has_no_effect_by_a_sampler_is_not_decided():
    assert ActionMap(TABLE.by(Halton())).names == (*COLUMNS[:2], COLUMNS[3])
    assert ActionMap(TABLE.by(EntropyBound())).names == (COLUMNS[1], COLUMNS[3])
    assert ActionMap(TABLE.by(ReMDM())).names == ActionMap().names == COLUMNS


def test_a_share_of_one_that_is_not_decided_stays_one():
    """A sigmoid never gets there, and floor(N m) would be a token less."""
    table = Schedule(torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 2.0]]))
    mapping = ActionMap(table, quantities=["guidance_scale"])
    actions, steps = torch.tensor([[0.3], [-0.3]]), torch.arange(2)
    assert mapping.physical(actions, steps)[:, 0].tolist() == [1.0, 0.0]
    assert mapping.mean_physical(actions, 0.2, steps)[:, 0].tolist() == [1.0, 0.0]


def test_columns_that_are_not_there_are_refused():
    mapping = ActionMap(TABLE, quantities=["guidance_scale"])
    with pytest.raises(ValueError, match=r"^actions: got \(2, 4\), allowed is \[B, 1\]"):
        mapping.physical(torch.zeros(2, 4), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"^physical: got \(2, 1\), allowed is \[B, 4\]"):
        mapping.actions(torch.ones(2, 1), torch.tensor([0, 1]))


def test_a_samplers_share_is_a_fifth_column_around_its_own_number():
    residual = TABLE.by(ReMDM(0.3))
    assert ActionMap(residual).physical(torch.zeros(3, 4), torch.arange(3)).shape == (3, 4)
    mapping = ActionMap(residual, quantities=("eta", *COLUMNS))
    physical = mapping.physical(torch.zeros(3, 5), torch.arange(3))
    torch.testing.assert_close(physical[:, 4], torch.full((3,), 0.3))
    torch.testing.assert_close(physical[:, :4], TABLE.table, atol=1e-6, rtol=1e-6)
    actions = random_actions(20)
    five = torch.cat([actions[:, :1], actions], dim=1)
    steps = torch.arange(20) % 3
    found = mapping.physical(five, steps)
    raw = logit(0.3) + 5 * actions[:, 0].double().numpy()
    np.testing.assert_allclose(found[:, 4], expit(raw), rtol=1e-5)
    assert torch.equal(found[:, :4], ActionMap(TABLE).physical(actions, steps))
    assert mapping.idle_at_last == (True, True, False, True, False)


def test_a_map_is_raw_numbers_after_the_others():
    residual, names = TABLE.by(ConfidenceMap()), ("guidance_scale", "confidence_map")
    mapping = ActionMap(residual, quantities=names, num_tokens=6)
    assert mapping.names == ("guidance_scale", *["confidence_map"] * 6)
    assert mapping.idle_at_last == (False, *[True] * 6)
    assert ActionMap(residual, num_tokens=6).names == (*COLUMNS, *mapping.names[1:])
    actions = random_actions(14).view(8, 7)
    steps = torch.arange(8) % 3
    physical = mapping.physical(actions, steps)
    torch.testing.assert_close(physical[:, 4:], 5 * actions[:, 1:])
    alone = ActionMap(TABLE, quantities=names[:1])
    assert torch.equal(physical[:, :4], alone.physical(actions[:, :1], steps))
    again = mapping.physical(mapping.actions(physical, steps), steps)
    torch.testing.assert_close(again, physical, atol=1e-5, rtol=1e-4)


def test_noise_on_single_tokens_is_noise_of_re_masking():
    """Of mean and variance of what is added to a confidence nothing is lost after training."""
    mapping = ActionMap(TABLE.by(ConfidenceMap()), num_tokens=3)
    actions, steps = torch.zeros(2, 7), torch.arange(2)
    actions[:, 4:] = torch.tensor([0.04, -0.02, 0.0])
    mean = mapping.mean_physical(actions, torch.tensor([0.0, 0.0, 1e-6, 0.0, *[0.12] * 3]), steps)
    torch.testing.assert_close(mean[:, 4:], 5 * actions[:, 4:], atol=1e-6, rtol=1e-5)
    random = np.random.default_rng(0)
    for step in range(2):
        gumbel, normal = random.gumbel(size=10**6), random.normal(size=10**6)
        trained = TABLE.table[step, 2].item() * gumbel + 5 * 0.12 * normal
        decoded = mean[step, 2].item() * gumbel
        assert decoded.std() == pytest.approx(trained.std(), rel=0.005)
    # tau_2 is compensated where it is the residual's, too, and nothing is where there is no noise.
    fixed = ActionMap(TABLE.by(ConfidenceMap()), quantities=("confidence_map",), num_tokens=3)
    found = fixed.mean_physical(actions[:, 4:], 0.12, steps)
    torch.testing.assert_close(found[:, 2], mean[:, 2], atol=1e-4, rtol=1e-4)
    without = mapping.mean_physical(actions, 0.0, steps)
    torch.testing.assert_close(without, mapping.physical(actions, steps), atol=1e-5, rtol=1e-5)


def test_a_map_needs_its_size_and_comes_last():
    residual = TABLE.by(ConfidenceMap())
    with pytest.raises(ValueError, match=r"^num_tokens: got None, allowed with a map is N >= 1"):
        ActionMap(residual)
    with pytest.raises(
        ValueError, match=r"^quantities: .* allowed is 'confidence_map' as the last"
    ):
        ActionMap(residual, quantities=("confidence_map", "guidance_scale"), num_tokens=6)


@pytest.mark.parametrize(
    ("residual", "names"),
    [
        (TABLE, ()),
        (TABLE, ("m",)),
        (TABLE, ("eta",)),
        (TABLE, ("guidance_scale", "guidance_scale")),
        (None, ("guidance_scale",)),
        (TABLE, "guidance_scale"),
        (TABLE, 3),
        (TABLE, [["guidance_scale"]]),
        (TABLE.by(Halton()), ("remask_temperature",)),  # which it has no use for
    ],
)
def test_quantities_that_cannot_be_decided_are_refused(residual, names):
    with pytest.raises(ValueError, match=r"^quantities: got .*, allowed "):
        ActionMap(residual, quantities=names)


def test_mean_physical_without_noise_is_physical():
    actions, steps = random_actions(60), torch.arange(60) % 3
    mean = ActionMap(TABLE).mean_physical(actions, 0.0, steps)
    torch.testing.assert_close(mean, ActionMap(TABLE).physical(actions, steps))
