"""What a run folder and its logs say of the training, against what the training did."""

import dataclasses
import re
import shlex
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import tyro
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from agents.learners.algorithms import ALGORITHMS
from agents.learners.config import PRESETS, TrainConfig
from agents.reports.charts import layout
from agents.runs.checkpoint import load_about, load_policy
from agents.runs.repeat import training_command
from agents.training.train import Training
from nat_env.bundles.loading import load_bundle
from nat_env.commands import entry
from nat_env.commands.machine import cpu_name
from nat_env.commands.parsing import parse_one_of
from nat_env.decoding.quantities import COLUMNS
from nat_env.frozen.conditions import balanced_conditions
from nat_env.generation import generate
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.seeds import TRAINING_EVALUATION

SMALL = TrainConfig(
    Path(),
    bundle="digits",
    num_steps=2,
    budget=32 * 4,
    trajectories_per_round=32,
    num_envs=16,
    hidden_size=16,
    batch_size=32,
    epochs=1,
    discriminator=DiscriminatorConfig(widths=(8, 16), batch_size=16),
    discriminator_updates=1,
    warmup_rounds=1,
    eval_every=2,
    num_samples=150,  # more than one batch
    threads=1,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a run"
    training = Training(dataclasses.replace(SMALL, out=out), progress=False)
    return out, training, training.run()


@pytest.fixture(scope="module")
def events(trained):
    return EventAccumulator(str(trained[0] / "tensorboard"), {"scalars": 0, "tensors": 0}).Reload()


def parsed(command):
    program, *arguments = command
    assert program == "nat-train"
    return tyro.extras.overridable_config_cli(PRESETS, args=arguments)


@pytest.mark.parametrize(
    ("preset", "changes", "differ"),
    [
        ("fashion", {}, []),
        ("digits", {"seed": 3}, ["--seed", "3"]),
        ("paper", {"residual": "heuristic"}, ["--residual", "heuristic"]),
        ("fashion", {"residual": None, "adaptive": False}, ["--residual", "None", "--no-adaptive"]),
        (
            "digits",
            {
                "algo": "sac",
                "algo_options": {"learning_rate": 3e-4, "tau": 1},
                "discriminator": DiscriminatorConfig(trunk="bundle", augment=True),
            },
            [
                *("--algo", "sac", "--algo-options", "learning_rate", "0.0003", "tau", "1"),
                *("--discriminator.widths", "32", "64", "128", "--discriminator.augment"),
            ],
        ),
    ],
)
def test_the_command_gives_the_same_training_by_what_differs_from_a_preset(preset, changes, differ):
    config = dataclasses.replace(PRESETS[preset][1], out=Path("runs/a"), **changes)
    command = training_command(dataclasses.replace(config, resume=True))
    assert command == ["nat-train", preset, "--out", "runs/a", *differ]
    assert parsed(command) == config


def test_the_report_tells_what_the_training_did(trained):
    out, _, results = trained
    text = (out / "report.md").read_text()
    rows = re.findall(r"^\| ([a-z, ]*)\|? ?\[(\d+)\]\(.*\) \| (\d+) \| ([\d.]+) \|$", text, re.M)
    history = results["history"]
    assert [(int(r[1]), int(r[2]), float(r[3])) for r in rows] == [
        (h["round"], h["trajectories"], round(h["frechet_distance"], 2)) for h in history
    ]
    best = min(range(len(history)), key=lambda i: history[i]["frechet_distance"])
    assert [i for i, row in enumerate(rows) if "best" in row[0]] == [best]
    assert "start" in rows[0][0] and "last" in rows[-1][0]
    assert "(digits-judge, N = 150)" in text and "128 of 128 trajectories" in text
    pictures = set(re.findall(r"\((samples/.*?\.png)\)", text))
    assert pictures == {str(p.relative_to(out)) for p in (out / "samples").iterdir()}
    again, evaluate, _ = (shlex.split(c) for c in re.findall(r"^    (\w.*)$", text, re.M))
    repeated = parsed(again)
    assert repeated == dataclasses.replace(SMALL, out=repeated.out)
    Training(repeated, progress=False)  # refused where a run is
    assert evaluate[:6] == ["nat-eval", "--policies", "heuristic", str(out), "--num-steps", "2"]


def test_the_reported_quantities_are_those_of_the_best_policys_samples(trained):
    out, _, results = trained
    bundle = load_bundle("digits")
    actions = [[], []]
    images = generate(
        bundle,
        load_policy(out, bundle),
        balanced_conditions(150, 10),
        2,
        TRAINING_EVALUATION.seed_of(0),
        on_step=lambda record: actions[record.timestep].append(record.actions),
    )
    assert len(images) == 150
    about = load_about(out)
    assert about["frechet_distance"] == results["best_frechet_distance"]
    text = (out / "report.md").read_text()
    for step in (0, 1):
        chosen = torch.cat(actions[step])
        cells = [f"{m:.2f} ± {s:.2f}" for m, s in zip(chosen.mean(0), chosen.std(0), strict=True)]
        assert [about["actions"][name]["mean"][step] for name in COLUMNS] == pytest.approx(
            chosen.mean(0).tolist(), rel=1e-5
        )
        if step == 1:  # m and tau_2 have no effect
            cells[0] = cells[2] = ""
        line = "|" + "|".join(f" {c} " if c else " " for c in [str(step + 1), *cells]) + "|"
        assert line in text


def test_charts_name_tags_that_exist_and_leave_none_of_ours_out(events):
    tags = set(events.Tags()["scalars"])
    (event,) = events.Tensors("custom_scalars__config__")
    found = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = {c.title: {h.title: list(h.multiline.tag) for h in c.chart} for c in found.category}
    shown = [tag for category in charts.values() for chart in category.values() for tag in chart]
    assert len(shown) == len(set(shown))
    groups = ("eval/", "reward/", "discriminator/", "time/", *(f"{name}/" for name in COLUMNS))
    assert set(shown) == {t for t in tags if t.startswith(groups)} - {"time/fps"}
    assert charts["discriminator"]["accuracies"] == [
        "discriminator/accuracy_real",
        "discriminator/accuracy_fake",
    ]
    assert charts["guidance_scale"]["mean by step"] == [
        f"guidance_scale/step{step}_mean" for step in (1, 2)
    ]
    assert layout(["train/loss"]) == {}


def test_hyper_parameters_stand_beside_the_last_and_the_best_distance(trained, events):
    history = trained[2]["history"]
    distances = [h["frechet_distance"] for h in history]
    for tag, value in (
        ("eval/frechet_distance", distances[-1]),
        ("eval/best_frechet_distance", min(distances)),
    ):
        assert events.Scalars(tag)[-1].value == pytest.approx(value, rel=1e-5)
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert start["num_steps"].number_value == 2
    assert start["discriminator.widths"].string_value == "(8, 16)"
    assert start["adaptive"].number_value == 1  # torch writes truth as a number
    assert "out" not in start and "threads" not in start
    content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    metrics = {metric.name.tag for metric in experiment.metric_infos}
    assert metrics == {"eval/frechet_distance", "eval/best_frechet_distance"}


def test_weights_and_biases_follows_the_events(tmp_path, monkeypatch):
    calls = []

    def init(**options):
        if not calls:  # it has to come first
            assert not (tmp_path / "run" / "tensorboard").exists()
        calls.append(options)
        return SimpleNamespace(finish=lambda: calls.append("finish"))

    stub = SimpleNamespace(init=init, __spec__=ModuleSpec("wandb", None))  # diffusers looks for it
    monkeypatch.setitem(sys.modules, "wandb", stub)
    config = dataclasses.replace(SMALL, out=tmp_path / "run", budget=64, wandb="mine")
    Training(config, progress=False).run()
    (options, finish) = calls
    assert finish == "finish"
    assert (options["project"], options["sync_tensorboard"]) == ("mine", True)
    assert (options["dir"], options["name"]) == (str(tmp_path / "run"), "run")
    assert options["config"]["budget"] == 64 and "wandb" not in options["config"]
    # It is no part of what identifies the run.
    Training(dataclasses.replace(config, wandb=None, resume=True), progress=False).run()
    assert len(calls) == 2
    # Resumed, it goes on in the same run; another training has its own.
    Training(dataclasses.replace(config, resume=True), progress=False).run()
    Training(dataclasses.replace(config, out=tmp_path / "other"), progress=False).run()
    first, _, resumed, _, other, _ = calls
    assert (resumed["id"], resumed["resume"]) == (first["id"], "allow")
    assert other["id"] != first["id"]


def test_without_weights_and_biases_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = dataclasses.replace(SMALL, out=tmp_path / "run", wandb="mine")
    with pytest.raises(ImportError, match=r"^wandb: .*'mine'.*pip install 'nat-env\[wandb\]'"):
        Training(config, progress=False)
    assert not (tmp_path / "run").exists()


def helped(parser, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["nat-train", "digits", "--help"])
    with pytest.raises(SystemExit):
        parser()
    return capsys.readouterr().out


def undescribed(text):
    """Options that a help text gives the default of and says nothing else."""
    options = re.split(r"^  (?=--\w)", text, flags=re.M)[1:]
    parts = [re.split(r"\s{2,}", option) for option in options]  # how it is called, what it is
    return [called.split(",")[0] for called, about, *_ in parts if about.startswith("(")]


def test_every_option_is_described_and_every_learner_listed(monkeypatch, capsys):
    text = helped(entry.train, monkeypatch, capsys)
    assert "--discriminator.r1 " in text and undescribed(text) == []
    (listed,) = re.findall(r"--algo \{(.*?)\}", text)
    assert listed.split(",") == list(ALGORITHMS)


@dataclasses.dataclass(frozen=True)
class Part:
    """Some options."""

    said: int = 1
    """Of a part."""

    unsaid: int = 2


@dataclasses.dataclass(frozen=True)
class Planted:
    """Options with and without a description."""

    said: int = 1
    """What it is."""

    unsaid: int = 2

    unsaid_and_too_long_for_its_column: int | None = None

    unsaid_flag: bool = False

    said_and_too_long_for_its_column: int | None = None
    """What it is."""

    part: Part = dataclasses.field(default_factory=Part)
    """A part."""


def test_a_planted_option_without_description_is_caught(monkeypatch, capsys):
    presets = {"digits": ("", Planted())}
    text = helped(lambda: parse_one_of(presets, "nat-train"), monkeypatch, capsys)
    assert undescribed(text) == [
        "--unsaid INT",
        "--unsaid-and-too-long-for-its-column {None}|INT",
        "--unsaid-flag",
        "--part.unsaid INT",
    ]


def test_the_folder_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["nat-train", "digits"])
    with pytest.raises(SystemExit):
        entry.train()
    assert "--out" in capsys.readouterr().err


def test_the_processors_name_is_read(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nmodel name\t: Some CPU: fast\nmodel name\t: other\n")
    assert cpu_name(path) == "Some CPU: fast"
    assert cpu_name(tmp_path / "none") is None
