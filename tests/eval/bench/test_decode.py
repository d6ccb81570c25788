from dataclasses import replace

import pytest
import torch

import eval.bench.contestants
import eval.bench.decode
from eval.bench.contestants import (
    PHASES,
    UVITS,
    Contestant,
    prepared,
    random_nat,
    untrained_network,
)
from eval.bench.decode import check, compared, contestants, targets
from eval.bench.measuring.phases import Phases
from eval.bench.measuring.timing import multiply_adds
from eval.bench.options import DecodeOptions
from eval.bench.peer import authors_generate, authors_step
from nat_env.decoding.transition import decode_step
from nat_env.frozen.protocol import NATOutput
from nat_env.models.uvit import UViTConfig
from nat_env.schedules import heuristic_schedule

TINY = UViTConfig(codebook_size=6, grid=(2, 2), num_classes=3, hidden_size=8, depth=3, num_heads=2)
ROW = 3 * (12 * 8**2 * 5 + 2 * 5**2 * 8) + 2 * 8**2 * 5 + (8**2 + 8 * 6) * 4
"""Multiply-adds of a pass of TINY on one row: three blocks (linear layers and attention on 4 tokens
and the class token), one long skip, head."""

POLICY = sum(
    [
        4 * 8 + 8 * 8,  # timestep
        8 * 16 + 8 * 32 + 8 * 16,  # modulations
        8 * 9 + 8 * 2,  # depth-wise and point-wise convolution to the one cell of 2 x 2 tokens
        2 * 16 + 16 * 8 + 8 * 4,
    ]
)
"""Of a policy network 8 wide."""


@pytest.mark.parametrize("last", [False, True])
def test_without_noise_the_authors_step_is_that_of_the_library(last):
    generator = torch.Generator().manual_seed(0)
    batch, num_tokens, codes = 64, 16, 9
    logits, null_logits = torch.randn(2, batch, num_tokens, codes, generator=generator)
    uniforms = torch.rand(batch, num_tokens, 2, generator=generator)
    ids = torch.randint(codes, (batch, num_tokens), generator=generator)
    share = torch.rand(batch, 1, generator=generator)  # from few to nearly all masked
    ids[torch.rand(ids.shape, generator=generator) < share] = codes
    actions = torch.rand(batch, 4, generator=generator)
    actions[:, 1] = 1e-6  # tau_1: the arg max
    actions[:, 2] = 0.0  # tau_2: no Gumbel noise
    sampled, remasked = authors_step(ids, logits, null_logits, actions, codes)
    at_end = torch.full((batch,), last)
    ours, _ = decode_step(ids, logits, null_logits, actions, uniforms, at_end, codes)
    assert torch.equal(ours, sampled if last else remasked)
    counts = (ours == codes).sum(dim=1)
    assert last or len(set(counts.tolist())) > 5  # the actions matter


def test_the_authors_loop_makes_2t_plus_1_passes_of_which_the_last_is_for_nothing():
    calls = []

    def transformer(ids, condition):
        calls.append((condition.tolist(), int((ids == 5).sum())))
        return NATOutput(torch.zeros(2, 4, 5), torch.zeros(2, 4, 1))

    def policy(features, timestep):
        return torch.tensor([[0.5, 1.0, 1.0, 0.0]]).expand(2, 4)

    ids = authors_generate(transformer, policy, lambda ids: ids, torch.tensor([0, 1]), 3, 4, 5, 9)
    kinds = [condition for condition, _ in calls]
    assert kinds == [[0, 1], [9, 9], [0, 1], [9, 9], [0, 1], [9, 9], [0, 1]]
    assert [masked for _, masked in calls] == [8, 8, 4, 4, 4, 4, 4]  # m = 1 / 2 to the end
    assert int(ids.max()) < 5  # what is decoded is filled nevertheless


@pytest.mark.parametrize(
    ("authors", "rows"),
    # Ours: the empty canvas for each label and for none, then both passes on every sample.
    [(False, (3 + 1) + 2 * 2 * 7), (True, (2 * 3 + 1) * 7)],
)
def test_multiply_adds_are_those_counted_by_hand(authors, rows):
    decode = prepared(Contestant(TINY, 3, 7, authors=authors, hidden_size=8))
    for _ in range(2):  # a batch does not profit from the one before
        counts = multiply_adds(decode)
        assert counts["nat"] == rows * ROW
        assert counts["policy"] == 7 * 3 * POLICY
        assert counts["sampling"] == counts["tokenizer"] == 0


def test_phases_of_decoding_are_parts_of_the_whole(digits, monkeypatch):
    monkeypatch.setattr(eval.bench.decode, "most_per_second", lambda *given, **named: 1e9)
    passes, decode = digits.nat.passes, digits.tokenizer.decode
    setting = Contestant("digits", 2, 4)
    ours, theirs = compared([setting, replace(setting, authors=True)], repeats=2)
    for row in (ours, theirs):
        shares = [row[f"{name}_share"] for name in PHASES]
        assert all(share > 0 for share in shares)
        assert sum(shares) == pytest.approx(1)
        assert row["images_per_second"] == pytest.approx(4 / row["seconds"].median)
    assert theirs["ratio"] == 1
    speed = ours["images_per_second"] / theirs["images_per_second"]
    assert ours["ratio"] == pytest.approx(speed)
    assert (digits.nat.passes, digits.tokenizer.decode) == (passes, decode)
    # With 11 canvases of the first pass and 8 rows after it, at 1e9 a second at most.
    nat_seconds = ours["nat_share"] * ours["seconds"].median
    counted = multiply_adds(prepared(setting))["nat"]
    assert ours["of_ceiling_share"] == pytest.approx(counted / 1e9 / nat_seconds)


def test_the_papers_model_is_of_its_size_and_the_untrained_network_is_the_heuristic():
    nat = random_nat(TINY, "float32")
    policy = untrained_network(random_nat(TINY, "float32"), 4, hidden_size=8)
    features = nat.first_passes(torch.zeros(4, dtype=torch.int64)).features
    actions = policy(features, torch.arange(4))
    torch.testing.assert_close(actions, heuristic_schedule(4).table, atol=1e-3, rtol=1e-3)
    parameters = random_nat(UVITS["S"], "float32").transformer.parameters()
    assert sum(p.numel() for p in parameters) == pytest.approx(45.6e6, rel=0.01)


def test_every_setting_is_decoded_by_each_loop_once():
    options = DecodeOptions(("digits",), (2, 3), (5,), ("float32", "float32"), random=("tiny",))
    found = [[(c.nat, c.num_steps, c.batch_size, c.loop) for c in g] for g in contestants(options)]
    settings = [("digits", 2, 5), ("digits", 3, 5), (UVITS["tiny"], 8, 16)]
    loops = ("nat_env, float32", "authors, float32")
    assert found == [[(*setting, loop) for loop in loops] for setting in settings]


def test_a_policy_of_another_t_is_refused(tmp_path):
    path = tmp_path / "schedule.json"
    heuristic_schedule(4).save(path)
    options = DecodeOptions(("digits",), (4,), (2,), policy=str(path), random=())
    check(options)
    with pytest.raises(ValueError, match="num_steps"):
        check(replace(options, num_steps=(4, 8)))


def decoding_row(nat, batch, loop, ratio, num_steps=4):
    shares = {"nat_share": 0.8, "tokenizer_share": 0.12, "policy_share": 0.03}
    names = {"nat": nat, "T": num_steps, "batch": batch, "loop": loop, "ratio": ratio}
    return names | shares | {"of_ceiling_share": 0.81}


def test_targets_are_held_against_the_largest_batch_and_the_right_limits():
    rows = [
        decoding_row("fashion", 16, "nat_env, float32", 9.0),
        decoding_row("fashion", 256, "nat_env, float32", 1.5),
        decoding_row("fashion", 256, "nat_env, bfloat16", 5.5),
        decoding_row("fashion", 256, "authors, float32", 1.0),
        decoding_row("digits", 512, "nat_env, float32", 9.0),
        decoding_row("U-ViT 512 x 13", 16, "nat_env, bfloat16", 2.9, num_steps=8),
        decoding_row("U-ViT 512 x 13", 16, "nat_env, float32", 1.1, num_steps=8),
    ]
    found = [(r["measured"], r["goal"], r["verdict"].strip("*")) for r in targets(rows)]
    shares = [
        (pytest.approx(0.08), "<= 0.1", "reached"),
        (0.03, "<= 0.02", "NOT reached"),
        (0.81, ">= 0.8", "reached"),
    ]
    assert found == [
        (1.5, ">= 1.6", "NOT reached"),
        *shares,
        (5.5, ">= 5", "reached"),
        *shares,
        (2.9, ">= 3", "NOT reached"),
    ]
    assert targets(rows[4:5]) == []


def test_seconds_of_the_nat_are_where_the_nat_is_slow(monkeypatch):
    now = 0.0
    decode = prepared(Contestant(TINY, 3, 2, hidden_size=8))
    nat_forward = eval.bench.contestants.UViT.forward

    def slow(self, *args):
        nonlocal now
        now += 5
        return nat_forward(self, *args)

    monkeypatch.setattr(eval.bench.contestants.UViT, "forward", slow)
    phases = Phases(lambda: now)
    decode(phases)
    assert {n: s for n, s in phases.totals.items() if s} == {"nat": 3 * 5}
