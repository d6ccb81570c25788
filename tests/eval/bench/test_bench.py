import functools
import json
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

import eval.bench.arithmetic
import eval.bench.decode
import eval.bench.environment
import eval.bench.growth
import eval.bench.machine
import eval.bench.run
import eval.bench.timing
from eval.bench.arithmetic import MultiplyAdds
from eval.bench.decode import OPERATIONS, DecodeOptions, compared, nat_products
from eval.bench.environment import EnvOptions
from eval.bench.growth import ScaleOptions, exponents, growth_exponent
from eval.bench.loops import PHASES, Contestant, Setting, loop
from eval.bench.memory import Memory, peak_memory
from eval.bench.operations import nat_calls, operation_shares
from eval.bench.peer import authors_generate, authors_step
from eval.bench.report import Section
from eval.bench.run import Arguments, run
from eval.bench.subjects import RandomBundle, untrained_network
from eval.bench.targets import targets
from eval.bench.timing import Phases, Spread, interleaved
from eval.bench.training import LEARNERS, ROLLOUT, Rounds, TrainOptions, configuration
from nat_env.decoding import decode_step
from nat_env.models.uvit import NATOutput, UViTConfig
from nat_env.schedules import heuristic_schedule
from nat_env.storage.files import write_json
from nat_env.vector_env import NATDecodeVectorEnv

TINY = UViTConfig(codebook_size=6, num_tokens=4, num_classes=3, hidden_size=8, depth=3, num_heads=2)
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


@pytest.mark.parametrize(("authors", "passes"), [(False, 2 * 2), (True, 2 * 3 + 1)])
def test_multiply_adds_are_those_counted_by_hand(authors, passes):
    contestant = Contestant(Setting(TINY, 3, 2, hidden_size=8), "float32", authors)
    decode = loop(contestant)
    decode(lambda name, function: function)  # keeps the first pass
    count = MultiplyAdds()
    decode(count.counted)
    assert count.counts["nat"] == 2 * passes * ROW
    assert count.counts["policy"] == 2 * 3 * POLICY
    products = nat_products(decode)
    assert sum(n * np.prod(shape) for shape, n in products.items()) == count.counts["nat"]


def test_phases_of_decoding_are_parts_of_the_whole(digits):
    passes, decode = digits.nat.passes, digits.tokenizer.decode
    ours, theirs = compared(Setting("digits", 2, 4), ("float32",), repeats=1)
    for row in (ours, theirs):
        shares = [row[f"{name}_share"] for name in (*PHASES, "rest")]
        assert all(share > 0 for share in shares)
        assert sum(shares) == pytest.approx(1)
    assert theirs["ratio"] == Spread(1, 1, 1)
    speed = ours["images_per_second"].median / theirs["images_per_second"].median
    assert ours["ratio"].median == pytest.approx(speed)
    assert (digits.nat.passes, digits.tokenizer.decode) == (passes, decode)


def test_a_phase_in_another_is_not_counted_twice(monkeypatch):
    now = 0.0

    def takes(seconds):
        nonlocal now
        now += seconds

    monkeypatch.setattr(eval.bench.timing.time, "perf_counter", lambda: now)
    phases = Phases()
    inner = phases.timed("inner", takes)

    def outer():
        inner(2)
        takes(3)
        inner(4)

    timed = phases.timed("outer", outer)
    timed()
    timed()
    assert phases.seconds == {"inner": 12, "outer": 6}


def test_contestants_go_by_turns_and_warm_up_first(monkeypatch):
    now, calls = 0.0, []

    def contestant(name, seconds):
        def call():
            nonlocal now
            calls.append(name)
            now += seconds * len(calls)

        return call

    monkeypatch.setattr(eval.bench.timing.time, "perf_counter", lambda: now)
    seconds = interleaved({"a": contestant("a", 1), "b": contestant("b", 10)}, repeats=2)
    assert calls == ["a", "b"] * 3
    assert seconds == {"a": [3, 5], "b": [40, 60]}
    assert Spread.of(seconds["b"]) == Spread(50, 40, 60)


def test_exponents_are_those_that_the_numbers_grow_with():
    rows = [
        {"axis": axis, "size": n, "seconds": Spread.of([0.3 * n**power]), "memory_mb": 7.0}
        for axis, power in (("tokens", 1.5), ("steps", 1.0))
        for n in (16, 64, 100, 1024)
    ]
    tokens, steps = exponents(rows)
    assert tokens["time_exponent"] == pytest.approx(1.5)
    assert steps["time_exponent"] == pytest.approx(1.0)
    assert tokens["memory_exponent"] == pytest.approx(0.0)
    # A straight line through points off it: slope of log values 0, 1, 1 over log sizes 0, 1, 2.
    assert growth_exponent(np.exp([0, 1, 2]), np.exp([0, 1, 1])) == pytest.approx(0.5)


def test_a_first_pass_that_is_not_kept_is_one_on_each_label_and_the_null_one():
    kept, anew = (
        loop(Contestant(Setting(TINY, 3, 7, hidden_size=8), "float32", first_pass_kept=kept))
        for kept in (True, False)
    )
    counts = []
    for decode in (kept, anew):
        decode(lambda name, function: function)
        count = MultiplyAdds()
        decode(count.counted)
        counts.append(count.counts["nat"])
    assert counts[1] - counts[0] == (TINY.num_classes + 1) * ROW


def decoding_row(bundle, batch, loop, ratio, **shares):
    return {"bundle": bundle, "T": 4, "batch": batch, "loop": loop} | (
        shares or {"ratio": Spread.of([ratio])}
    )


def test_targets_are_held_against_the_largest_batch_and_the_right_limits():
    shares = {"nat_share": 0.8, "tokenizer_share": 0.12, "policy_share": 0.03}
    shares["of_ceiling_share"] = 0.81
    parts = {
        "decode": [
            Section(
                "Decoding",
                [
                    decoding_row("fashion", 16, "nat_env, float32", 9.0),
                    decoding_row("fashion", 256, "nat_env, float32", 1.5),
                    decoding_row("fashion", 256, "nat_env, bfloat16", 5.5),
                    decoding_row("fashion", 256, "authors' loop, float32", 1.0),
                    decoding_row("U-ViT 512 x 13, 256 tokens", 16, "nat_env, bfloat16", 2.9),
                ],
            ),
            Section(
                "Where the decoding time goes",
                [decoding_row("fashion", 256, "nat_env, float32", None, **shares)],
            ),
        ],
        "train": [
            Section(
                "Training",
                [
                    {
                        "learner": "ours",
                        "rollout_outside_share": 0.1,
                        "update_to_rollout_share": 0.2,
                    }
                ],
            )
        ],
    }
    found = [(r["measured"], r["goal"], r["verdict"].strip("*")) for r in targets(parts).rows]
    assert found == [
        (5.5, ">= 5", "reached"),
        (1.5, ">= 1.6", "NOT reached"),
        (2.9, ">= 3", "NOT reached"),
        (pytest.approx(0.08), "<= 0.1", "reached"),
        (0.03, "<= 0.02", "NOT reached"),
        (0.81, ">= 0.8", "reached"),
        (0.1, "<= 0.15", "reached"),
        (0.2, "<= 0.15", "NOT reached"),
    ]
    assert targets({}).rows == []


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "reached"), (1.1, "**NOT reached**")])
def test_every_limit_is_on_its_own_side(factor, verdict):
    def at(limit, grows=True):  # at the limit, or beyond it
        return Spread.of([limit * factor if grows else limit / factor])

    in_a_file = {"axis": "trajectories, kept in a file", "last_memory_exponent": 0.2 * factor}
    exponents_row = {
        "axis": "environments",
        "time_exponent": 1.05 * factor,
        "memory_exponent": 1.05 * factor,
        "last_time_exponent": 1.05 * factor,
        "last_memory_exponent": 1.05 * factor,
    }
    parts = {
        "env": [Section("Environment", [{"environment": "ours", "ratio": at(20, grows=False)}])],
        "scale": [
            Section(
                "Growth: exponents",
                [exponents_row, exponents_row | {"axis": "tokens"}, in_a_file],
            )
        ],
        "start": [
            Section(
                "Start",
                [
                    {"what": "import nat_env, after torch", "seconds": at(0.5)},
                    {"what": "gym.make, the bundle in memory", "seconds": at(0.2)},
                    {"what": "process start to the first episode", "seconds": at(60)},
                ],
            ),
            Section(
                "Imported",
                [
                    {"package": name, "installed": 1, "by_the_first_episode": int(found)}
                    for name, found in (("diffusers", True), ("transformers", factor > 1))
                ],
            ),
        ],
    }
    rows = targets(parts).rows
    assert len(rows) == 1 + 5 + 3
    assert {row["verdict"] for row in rows} == {verdict}


def test_the_papers_size_is_held_in_its_best_dtype_with_the_first_pass_kept_and_anew():
    loops = {
        "nat_env, float32": 1.1,
        "nat_env, bfloat16": 4.2,
        "nat_env, float32, first pass anew": 1.0,
        "nat_env, bfloat16, first pass anew": 2.5,
        "authors' loop, float32": 1.0,
    }
    rows = [decoding_row("U-ViT 512 x 13", 16, loop, ratio) for loop, ratio in loops.items()]
    sections = [Section("Decoding", rows), Section("Where the decoding time goes", [])]
    found = targets({"decode": sections}).rows
    assert [(row["measured"], row["goal"]) for row in found] == [(4.2, ">= 3"), (2.5, ">= 3")]


def test_ceilings_count_a_multiply_add_as_two_and_take_the_best(monkeypatch):
    seconds = {(2, torch.float32): 4.0, (4, torch.float32): 2.0, (2, torch.bfloat16): 0.5}

    def least(product, dtype, repeats):
        assert product == (1, *product[1:2] * 3)
        return seconds.get((product[1], dtype), 100.0)

    monkeypatch.setattr(eval.bench.machine, "least_seconds", least)
    found = eval.bench.machine.ceilings((2, 4), 1, 1)
    assert found["float32_gflops"] == pytest.approx(2 * 4**3 / 2.0 / 1e9)
    assert found["bfloat16_gflops"] == pytest.approx(2 * 2**3 / 0.5 / 1e9)


def test_the_nats_ceiling_is_each_product_as_often_as_it_is_made_in_its_dtype(monkeypatch):
    asked = []

    def best(product, dtype, repeats):
        asked.append((product, dtype))
        return float(product[0])

    monkeypatch.setattr(eval.bench.arithmetic, "_best", best)
    products = Counter({(1, 2, 3, 4): 5, (7, 2, 3, 4): 2})
    assert eval.bench.arithmetic.ceiling_seconds(products, torch.bfloat16, 3) == 5 * 1 + 2 * 7
    assert asked == [(product, torch.bfloat16) for product in products]


def test_the_share_of_the_ceiling_is_of_the_nats_time(monkeypatch):
    monkeypatch.setattr(eval.bench.decode, "ceiling_seconds", lambda *given: 1e-9)
    ours, _ = compared(Setting("digits", 2, 4), ("float32",), repeats=1)
    nat_seconds = ours["nat_share"] * 4 / ours["images_per_second"].median
    assert ours["of_ceiling_share"] == pytest.approx(1e-9 / nat_seconds)


def test_every_environment_makes_the_steps_that_are_counted(monkeypatch):
    options = EnvOptions("digits", num_envs=3, num_steps=2)
    steps = []  # rows of each call of the environment's own step

    def counted(self, actions):
        steps.append(self.num_envs)
        return step(self, actions)

    step = NATDecodeVectorEnv.step
    monkeypatch.setattr(NATDecodeVectorEnv, "step", counted)
    (section,) = eval.bench.environment.run(options, repeats=2)
    batched, single = [3] * 2, [1] * 3 * 2
    assert steps == (batched * 3 + single) * 3  # a warm-up and two repeats
    names = [row["environment"] for row in section.rows]
    assert names[0] == "NATDecodeVectorEnv"
    assert names[-1].startswith("SyncVectorEnv")
    assert section.rows[-1]["ratio"] == Spread(1, 1, 1)
    for row in section.rows:
        assert row["steps_per_second"].median > 0


def test_a_policy_of_another_bundle_or_t_is_refused_before_any_work(tmp_path, monkeypatch):
    path = tmp_path / "schedule.json"
    heuristic_schedule(4).save(path)
    monkeypatch.setattr(eval.bench.run, "ceilings", pytest.fail)
    decode = DecodeOptions(("digits",), (4, 8), (2,), policy=str(path), papers_size=False)
    with pytest.raises(ValueError, match="num_steps"):
        run(Arguments(tmp_path / "out", ("decode",), decode=decode))
    eval.bench.decode.check(replace(decode, num_steps=(4,)))


def test_results_say_what_made_them(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["nat-bench", "--parts", "env", "--quick"])
    run(Arguments(tmp_path, ("env",), repeats=1, quick=True, progress=False))
    machine = json.loads((tmp_path / "bench.json").read_text())["machine"]
    assert machine["command"].endswith("--parts env --quick")
    assert machine["options"]["env"]["num_envs"] == 4  # those of quick
    assert machine["commit"] in (tmp_path / "bench.md").read_text()


def test_peak_memory_is_that_of_the_work_alone():
    ballast = torch.ones(2**26)  # 256 MB of this process's own
    memory = peak_memory(functools.partial, torch.ones, 25 * 2**20)
    assert 100 <= memory.rise < 150
    assert memory.peak == pytest.approx(memory.before + memory.rise)
    del ballast


def test_the_untrained_network_is_the_heuristic():
    models = RandomBundle(TINY, "float32")
    policy = untrained_network(models, 4, hidden_size=8)
    features = models.nat.first_passes(torch.zeros(4, dtype=torch.int64)).features
    actions = policy(features, torch.arange(4))
    torch.testing.assert_close(actions, heuristic_schedule(4).table, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_round_is_one_of_learning_and_the_same_work_for_every_learner(learner, tmp_path):
    config = configuration(TrainOptions("digits", trajectories_per_round=8))
    config = replace(config, out=tmp_path / "run", dtype="float32", discriminator_updates=2)
    rounds = Rounds(learner, config)
    before = {k: v.clone() for k, v in rounds.model.policy.state_dict().items()}
    heads = {k: v.clone() for k, v in rounds.env.model.discriminator.state_dict().items()}
    phases = Phases()
    started = time.perf_counter()
    rounds.run(phases)
    elapsed = time.perf_counter() - started
    assert set(phases.seconds) == {*ROLLOUT, "update", "discriminator"}
    assert 0 < sum(phases.seconds.values()) <= elapsed
    assert rounds.model.num_timesteps == 8 * config.num_steps
    assert rounds.model._n_updates == config.epochs
    after = rounds.model.policy.state_dict()
    assert any(not torch.equal(v, after[k]) for k, v in before.items())
    judged = rounds.env.model.discriminator.state_dict()
    assert any(not torch.equal(v, judged[k]) for k, v in heads.items())


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda out: Arguments(out, parts=()), "parts"),
        (lambda out: Arguments(out, repeats=0), "repeats"),
        (lambda out: Arguments(out, threads=0), "threads"),
        (lambda out: ScaleOptions(num_envs=(4,)), "num_envs"),
        (lambda out: ScaleOptions(num_tokens=(49, 50)), "num_tokens"),
        (lambda out: ScaleOptions(num_steps=(4, 0)), "num_steps"),
        (lambda out: configuration(TrainOptions("none")), "preset"),
        (lambda out: DecodeOptions(bundles=()), "bundles"),
        (lambda out: DecodeOptions(dtypes=()), "dtypes"),
        (lambda out: DecodeOptions(num_steps=(4, 0)), "num_steps"),
        (lambda out: DecodeOptions(batch_sizes=(-1,)), "batch_sizes"),
        (lambda out: DecodeOptions(large_batch_size=0), "large_batch_size"),
        (lambda out: EnvOptions(num_envs=-1), "num_envs"),
        (lambda out: EnvOptions(num_steps=0), "num_steps"),
        (lambda out: growth_exponent([2, 2], [1, 1]), "sizes"),
        (lambda out: growth_exponent([1, 2], [0, 1]), "values"),
        (lambda out: interleaved({}, 0), "repeats"),
    ],
)
def test_what_cannot_be_measured_is_refused(make, name, tmp_path):
    with pytest.raises(ValueError, match=name):
        make(tmp_path)


def test_the_quick_bench_writes_after_every_part(tmp_path, monkeypatch):
    written = []

    def spy(path, values):
        written.append([key for key in values if key not in ("machine", "targets")])
        write_json(path, values)

    monkeypatch.setattr(eval.bench.run, "write_json", spy)
    for part in (eval.bench.decode, eval.bench.growth):  # a process for each, tested above
        monkeypatch.setattr(part, "peak_memory", lambda *given: Memory(1.0, 2.0))
    monkeypatch.setattr(eval.bench.growth, "held_memory", lambda *given: Memory(1.0, 2.0))
    parts = ("decode", "env", "scale")
    text = run(Arguments(tmp_path, parts, repeats=1, threads=1, quick=True, progress=False))
    assert written == [["decode"], ["decode", "env"], ["decode", "env", "scale"]]
    assert (tmp_path / "bench.md").read_text() == text + "\n"
    results = json.loads((tmp_path / "bench.json").read_text())
    assert results["targets"] == []  # sizes this small say nothing about them
    decoding = results["decode"][0]["rows"]
    rates = {(r["bundle"], r["loop"]): r["images_per_second"]["median"] for r in decoding}
    for row in decoding:
        ratio = rates[row["bundle"], row["loop"]] / rates[row["bundle"], "authors' loop, float32"]
        assert row["ratio"]["median"] == pytest.approx(ratio)
    assert f"| {results['env'][0]['rows'][0]['environment']} |" in text


def test_operations_are_told_apart():
    weight = torch.ones(64, 1, 3, 3, requires_grad=True)
    images = torch.ones(64, 64, 32, 32)

    def work():
        torch.nn.functional.conv2d(images, weight, padding=1, groups=64).sum().backward()

    shares = operation_shares(work)
    assert set(shares) == set(OPERATIONS)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["convolution_share"] > 0.5  # of both directions
    assert shares["matrix_products_share"] == shares["attention_share"] == 0


def test_the_nats_calls_are_made_again_as_they_were():
    decode = loop(Contestant(Setting(TINY, 3, 4, hidden_size=8), "float32"))
    decode(lambda name, function: function)  # fills the cache of first passes
    count = MultiplyAdds()
    decode(count.counted)
    again = MultiplyAdds()
    again.counted("nat", nat_calls(decode))()
    assert again.counts["nat"] == count.counts["nat"] == 2 * 2 * 4 * ROW
