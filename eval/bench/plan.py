"""What a training of the published sizes would take on several GPUs, from short rounds here."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.utils import benchmark

from agents.learners.config import PRESETS, TrainConfig
from eval.bench import paper_round
from eval.bench.contestants import UVITS
from eval.bench.measuring.memory import measured_apart
from eval.bench.measuring.report import Row, Section, target
from eval.bench.options import PaperRoundOptions, PlanOptions
from eval.bench.paper_round import FRESH, ROLLOUT, TOKENIZER, TOKENIZERS, TRANSFORMER
from eval.bench.planning.estimate import (
    WORTH_IT,
    Costs,
    Line,
    Links,
    communication_share,
    gpus_for_a_policy,
    round_seconds,
)
from eval.bench.planning.sizes import Frozen, memory_of
from nat_env.bundles.loading import load_bundle
from nat_env.frozen.conditions import balanced_conditions
from nat_env.models.uvit import UVIT_SIZES
from nat_env.rewards.discriminator import TrunkDiscriminator
from nat_env.rewards.trunks import ClassifierTrunk
from nat_env.storage.files import read_json

Phases = dict[str, float]
"""Seconds of a round's phases, by name."""

NEAR = 0.25
"""What is predicted for this machine may differ by that from what is measured."""


def run(options: PlanOptions, repeats: int) -> Iterator[Section]:
    """Measure two short rounds and hold what they predict of a longer one against it; then plan.

    With the report of another machine only plan.
    """
    if options.report is not None:
        nat, where, costs = reported(Path(options.report))
        yield from planned(replace(options, nat=nat), costs, where)
        return
    rounds = rounds_of(options)
    with TemporaryDirectory() as written:
        folder = Path(written)
        paper_round.save_random_bundle(rounds, folder)
        _, costs = measured_apart(prepared, options, repeats, folder)
        given = paper_round.prepared, rounds, options.held, folder
        _, (seconds, phases) = measured_apart(*given)
    yield held(options, costs, seconds, phases)
    yield from planned(options, costs)


def rounds_of(options: PlanOptions) -> PaperRoundOptions:
    """The rounds that are measured."""
    return PaperRoundOptions(
        options.num_steps,
        (*options.trajectories, options.held),
        options.num_envs,
        options.dtype,
        options.nat,
        device=options.device,
        tf32=options.tf32,
        decoder_dtype=options.decoder_dtype,
        compiled=options.compiled,
    )


def prepared(options: PlanOptions, repeats: int, folder: Path) -> Callable[[], Costs]:
    """What measures the costs, with all loaded; `folder` has the bundle."""
    rounds = rounds_of(options)
    configs = [paper_round.configuration(rounds, n, folder) for n in options.trajectories]
    works = [paper_round.prepared(rounds, n, folder) for n in options.trajectories]
    bundle = load_bundle(configs[0].bundle, **configs[0].models())
    model = frozen(options)

    def line(work: Callable[[torch.Tensor, torch.Tensor], Any], each: int) -> Line:
        """Of a call on few canvases and on many, the fastest of some."""
        points = []
        for count in (max(1, options.num_envs // 4), options.num_envs):
            ids = torch.zeros(count, bundle.num_tokens, dtype=torch.int64, device=bundle.device)
            labels = balanced_conditions(count, len(bundle.conditions)).to(bundle.device)
            work(ids, labels)
            points.append((each * count, min(_seconds(work, ids, labels) for _ in range(repeats))))
        return Line.through(*points)

    def work() -> Costs:
        rounds = []
        for config, one in zip(configs, works, strict=True):
            seconds, totals = one()
            rest = {"everything else": seconds - sum(totals.values())}
            rounds.append((config, totals | rest))
        passes = line(bundle.nat.passes, 2 * model.row)
        tokenizer = line(lambda ids, _: bundle.tokenizer.decode(ids), model.image)
        return _costs(model, passes, tokenizer, rounds)

    return work


def reported(path: Path) -> tuple[Any, str, Costs]:
    """Costs by the rounds of the preset `paper` in a bench.json.

    Returns:
        Whose rounds they are, on what, and what its parts cost.

    Raises:
        ValueError: a file that is damaged, or has no two such rounds.
    """

    def form(values: Any) -> tuple[PaperRoundOptions, str, list[tuple[TrainConfig, Phases]]]:
        asked = values["about"]["options"]["paper-round"]
        few, many = sorted(asked["trajectories"])
        options = PaperRoundOptions(
            asked["num_steps"], (few, many), asked["num_envs"], nat=asked["nat"]
        )
        rows = {section["title"]: section["rows"] for section in values["sections"]}
        rounds = [
            (
                paper_round.configuration(options, count, Path()),
                {
                    row["phase"]: row["seconds"]
                    for row in rows[paper_round.title(options.nat, count)]
                },
            )
            for count in (few, many)
        ]
        return options, values["about"]["accelerator"] or "a CPU", rounds

    options, where, rounds = read_json(path, "report", form)
    model = Frozen(UVITS[options.nat], TOKENIZERS[options.nat])
    config, phases = rounds[1]
    drawn = config.trajectories_per_round
    drawn += config.discriminator_updates * config.discriminator.batch_size
    passes, decoded = (
        phases[f"{ROLLOUT}, {part}"] + phases[f"{FRESH}, {part}"]
        for part in (TRANSFORMER, TOKENIZER)
    )
    rows = 2 * (config.num_steps - 1) * drawn
    of_row, of_image = (
        Line(0.0, passes / (rows * model.row)),
        Line(0.0, decoded / (drawn * model.image)),
    )
    return options.nat, where, _costs(model, of_row, of_image, rounds)


def _costs(
    model: Frozen, passes: Line, tokenizer: Line, rounds: Sequence[tuple[TrainConfig, Phases]]
) -> Costs:
    """Of a model, by what its calls cost and the phases of two rounds, the smaller one first."""
    points = [
        {
            "step": (config.trajectories_per_round * config.num_steps, spent[f"{ROLLOUT}, rest"]),
            "gradient": (
                config.trajectories_per_round * config.num_steps,
                spent["policy update"] / config.epochs,
            ),
            "fresh": (
                config.discriminator.batch_size * config.num_steps,
                spent["everything else"] / config.discriminator_updates,
            ),
            "discriminator": (
                2 * config.discriminator.batch_size,
                spent["discriminator update"] / config.discriminator_updates,
            ),
        }
        for config, spent in rounds
    ]
    lines = {name: Line.through(points[0][name], points[1][name]) for name in points[0]}
    classes, width = model.transformer.num_classes, rounds[0][0].discriminator.widths[-1]
    heads = TrunkDiscriminator(ClassifierTrunk(paper_round.random_trunk(classes)), classes, width)
    return Costs(
        passes=passes,
        tokenizer=tokenizer,
        **lines,
        features=model.features,
        pixels=model.pixels,
        heads=sum(p.numel() for p in heads.parameters() if p.requires_grad),
    )


def _seconds(work: Callable[..., Any], *given: Any) -> float:
    started = benchmark.timer()
    work(*given)
    return benchmark.timer() - started


def frozen(options: PlanOptions) -> Frozen:
    """The sizes of what is measured."""
    return Frozen(UVITS[options.nat], TOKENIZERS[options.nat])


def held(options: PlanOptions, costs: Costs, seconds: float, phases: dict[str, float]) -> Section:
    """The prediction of the longer round, held against what was measured of it."""
    config = paper_round.configuration(rounds_of(options), options.held, Path())
    predicted = round_seconds(costs, frozen(options), config, first=True)
    measured = {
        "transformer": phases[f"{ROLLOUT}, {TRANSFORMER}"] + phases[f"{FRESH}, {TRANSFORMER}"],
        "tokenizer": phases[f"{ROLLOUT}, {TOKENIZER}"] + phases[f"{FRESH}, {TOKENIZER}"],
        "rest of rollouts": phases[f"{ROLLOUT}, rest"],
        "rest of fresh samples": seconds - sum(phases.values()),
        "policy update": phases["policy update"],
        "discriminator update": phases["discriminator update"],
    }
    rows = [_compared(name, predicted[name], spent) for name, spent in measured.items()]
    whole = _compared("the round", sum(predicted.values()), seconds)
    note = (
        f"A round of the preset paper with {options.held} trajectories, T = {options.num_steps}, "
        f"{options.nat} with random weights, on this machine: predicted from rounds of "
        f"{' and '.join(map(str, options.trajectories))} and from calls of transformer and "
        "tokenizer, then measured."
    )
    away = target(
        "plan: predicted against measured, away by", abs(whole["ratio"] - 1), at_most=NEAR
    )
    return Section("Plan: held against a round here", [*rows, whole], note, [away])


def _compared(name: str, predicted: float, measured: float) -> Row:
    return {
        "phase": name,
        "predicted_seconds": predicted,
        "measured_seconds": measured,
        "ratio": predicted / measured,
    }


def planned(options: PlanOptions, costs: Costs, where: str = "here") -> Iterator[Section]:
    """The estimate, and what to do where communication is too much of it.

    `where` is what the costs are of, to print.
    """
    links = Links(
        options.gpus_per_machine,
        options.inside * 1e9,
        options.between * 1e9,
        options.latency * 1e-6,
    )
    rows, advice = [], []
    for name in options.models:
        for num_steps in options.plan_num_steps:
            config = replace(PRESETS["paper"][1], num_steps=num_steps)
            config = replace(config, batch_size=config.batch_size * num_steps // 8)
            model = Frozen(UVIT_SIZES[name])
            shares = {}
            alone = sum(round_seconds(costs, model, config, 1, links).values())
            for gpus in range(1, max(options.gpus) + 1):
                phases = round_seconds(costs, model, config, gpus, links)
                shares[gpus] = communication_share(phases)
                if gpus in options.gpus:
                    of = {"nat": name, "T": num_steps, "gpus": gpus}
                    seconds = sum(phases.values())
                    memory = sum(memory_of(model.transformer, config, gpus).values())
                    of["speedup"] = alone / seconds
                    rows.append(of | _planned(seconds, shares[gpus], memory, options.rounds))
            advice.append({"nat": name, "T": num_steps} | _advice(shares, max(options.gpus)))
    note = (
        f"AN ESTIMATE, not measured: {options.rounds} rounds of the preset paper, from what "
        f"{options.nat} costs: {where}. Multiply-adds are taken to be as fast as its; what steps "
        "and policy cost, to grow with the features; what the discriminator costs, with the "
        "pixels. One reduction for each step of an optimizer, a ring, not overlapped with the "
        f"backward pass: {options.inside:g} GB/s inside a machine of {options.gpus_per_machine}, "
        f"{options.between:g} GB/s for each GPU between machines, {options.latency:g} µs a "
        "message: assumptions. Memory: of each GPU, with features in half precision there; where "
        "more is free, decoding takes up to a quarter of it and is faster."
    )
    yield Section("Plan: an estimate of whole trainings", rows, note)
    about = (
        f"An estimate. Most GPUs of a policy: of 1 to {max(options.gpus)}, those up to which "
        f"communication takes at most {WORTH_IT:.0%} of a round".replace("%", " %")
        + "."
    )
    yield Section("Plan: how many GPUs for a policy", advice, about)


def _planned(seconds: float, share: float, memory: int, rounds: int) -> Row:
    return {
        "seconds_of_a_round": seconds,
        "hours": seconds * rounds / 3600,
        "communication_share": share,
        "gb_of_each_gpu": memory / 1e9,
    }


def _advice(shares: dict[int, float], gpus: int) -> Row:
    most = gpus_for_a_policy(shares)
    return {"most_gpus_of_a_policy": most, f"with_{gpus}": what_to_do(most, gpus)}


def what_to_do(most: int, gpus: int) -> str:
    """With so many GPUs, of which a policy is worth `most`.

    Example:
        >>> what_to_do(13, 64)
        '8 policies side by side (seeds, T, rewards), 8 GPUs each'
        >>> what_to_do(64, 64)
        'one policy'
    """
    if most >= gpus:
        return "one policy"
    each = 2 ** (most.bit_length() - 1)  # of the powers of two, which divide machines and batches
    return f"{gpus // each} policies side by side (seeds, T, rewards), {each} GPUs each"
