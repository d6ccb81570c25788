"""Examples, commands and links of README and docs, as a reader would follow them."""

import json
import re
import shlex
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import nat_env.schedules
from nat_env.bundles.loading import load_bundle
from nat_env.commands import command_line
from nat_env.commands.command_line import load
from nat_env.commands.entry import COMMANDS as COMMANDS_BY_NAME

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def examples(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)


def test_the_example_learns_and_ends_with_images_a_table_and_files(tmp_path, capsys):
    (example,) = examples("README.md")
    assert len(example.strip().splitlines()) <= 11
    shorter = example.replace("20_480 * 4", "(5 + 1) * 256 * 4")  # 5 are the warm-up
    shorter = shorter.replace('out="runs/example"', "out=OUT, num_samples=100, judges=JUDGES")
    assert shorter.count("(5 + 1)") == shorter.count("JUDGES") == 1
    names = {"OUT": tmp_path, "JUDGES": ()}
    exec(shorter, names)
    assert names["policy"].actor.head.weight.abs().max() > 0
    assert tuple(names["images"].shape) == (10, 1, 8, 8)
    assert re.search(
        r"\| learned \| 4 \| [\d.]+ \| digits-judge, N = 100 \|", capsys.readouterr().out
    )
    assert {"results.json", "table.md", "samples_T4_learned.png"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_the_environments_example_decodes_an_image(capsys):
    names = {}
    example, of_two, on_a_gpu = examples("docs/environment.md")
    exec(example, names)
    _, tau_1, _, w = names["info"]["action"]
    assert (tau_1, w) == (pytest.approx(1), pytest.approx(1))  # of the heuristic's last step
    assert names["terminated"] and not names["truncated"] and names["reward"] < 0
    exec(of_two, names)
    assert capsys.readouterr().out.endswith("(2, 2)\n")
    exec(on_a_gpu, names)
    env, conditions = names["env"], names["env"].conditions
    expected = env.bundle.nat.first_passes(conditions).features.half().float()
    assert torch.equal(names["features"], expected)
    assert names["observation"]["timestep"].tolist() == [[1]] * 4


def test_the_examples_of_rewards_pay_for_what_they_say():
    names = {}
    brightness, novelty, _ = examples("docs/own.md")
    exec(brightness, names)
    images, _, rewards = decoded(names["env"])
    np.testing.assert_allclose(rewards, images.mean(axis=(1, 2, 3)), rtol=1e-5)

    exec(novelty, names)
    images, conditions, rewards = decoded(names["env"])
    for label in range(10):
        typical = np.zeros_like(images[0])
        for i in np.flatnonzero(conditions == label):
            assert rewards[i] == pytest.approx(((images[i] - typical) ** 2).mean(), rel=1e-4)
            typical = 0.95 * typical + 0.05 * images[i]


def test_the_example_of_a_policy_draws_what_a_table_of_it_does():
    names = {"nat_env": nat_env}
    exec(examples("docs/own.md")[-1], names)
    table = [[0.75, 0.625, 0.75, 0.25], [0.5, 0.75, 0.5, 0.5], [0.25, 0.875, 0.25, 0.75]]
    table = torch.tensor([*table, [0.0, 1.0, 0.0, 1.0]])
    policy, digits = nat_env.ScheduledPolicy(nat_env.Schedule(table)), load_bundle("digits")
    expected = nat_env.generate(digits, policy, [3, 5], num_steps=4, seed=0)
    torch.testing.assert_close(names["images"], expected)


def test_the_examples_of_prompts_draw_and_pay_for_what_they_say(toy_text, text_folder):
    names, bundle = {}, load_bundle(text_folder)
    prompting, matching, rewarding = examples("docs/text.md")
    exec(prompting, names)
    prompts = ["aa b ccc", "ccc d"]
    images = names["pictures"](bundle, prompts)
    for image, prompt in zip(images, prompts, strict=True):
        np.testing.assert_allclose(image, toy_text.drawn(prompt), atol=1e-6)
    exec(matching, names)
    matcher = names["fresh_matcher"](bundle).eval()
    texts = bundle.conditions.pooled[:-1]
    np.testing.assert_allclose(matcher(images).detach(), matcher.matched(images, texts).detach())
    exec(rewarding, names)
    rewards = names["reward_of"](bundle)(images, np.array([1, 0]))
    np.testing.assert_allclose(rewards, [float(images[0].mean()) * 5, float(images[1].mean()) * 4])


def test_the_examples_of_pipelines_draw_the_same_cat(
    amused_folder, amused_bundle_folder, tmp_path, monkeypatch
):
    """On a tiny aMUSEd: the pipeline's schedule in a file is what the pipeline draws."""
    monkeypatch.chdir(tmp_path)
    ours, theirs = examples("docs/pipelines.md")
    names = {}
    exec(ours.replace('"amused_256"', f'"{amused_bundle_folder}", torch_dtype="float32"'), names)
    assert len(names["images"]) == 4 and names["images"][0].size == (8, 8)
    assert (tmp_path / "my_pipeline" / "bundle" / "bundle.json").is_file()
    nat_env.schedules.amused_schedule(12, 16).save(tmp_path / "schedule.json")
    theirs = theirs.replace("amused/amused-256", str(amused_folder))
    theirs = theirs.replace("schedule.num_steps)", "schedule.num_steps, generator=GENERATOR)")
    exec(theirs, names | {"GENERATOR": torch.Generator().manual_seed(7)}, names)
    first, cat = (np.asarray(image, int) for image in (names["images"][0], names["image"]))
    assert first.std() > 1 and np.abs(first - cat).max() <= 1


def test_the_example_of_a_model_is_saved_sampled_and_trained(tmp_path, monkeypatch):
    """In a folder with the example's file, by the commands that stand below it."""
    model, bundle = examples("docs/models.md")
    assert len((model + bundle).splitlines()) < 60
    (tmp_path / "my_model.py").write_text(model)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    torch.manual_seed(0)
    exec(bundle, {})
    below = (ROOT / "docs/models.md").read_text("utf-8").rpartition("```\n")[2]
    sample, train = re.findall(r"^    (nat-.*)$", below, re.MULTILINE)
    small = " --num-steps 2 --budget 64 --trajectories-per-round 16 --batch-size 32"
    small += " --hidden-size 8 --threads 1"
    for command in (sample, train + small):
        name, *words = shlex.split(command)
        command_line.run_command(name, COMMANDS_BY_NAME[name], words)
    with Image.open("grid.png") as grid:
        assert grid.width > 8
    mine = load_bundle("my_bundle", "float32")
    canvas = torch.full((2, 16), 64)
    output = mine.nat.transformer(canvas, torch.tensor([0, 1]))
    assert type(mine.nat.transformer).__module__ == "my_model"
    assert (output.logits[0] - output.logits[1]).abs().max() > 1e-3
    results = json.loads(Path("runs/mine/results.json").read_text("utf-8"))
    assert results["judge"] is None


def test_the_example_of_images_partly_known_keeps_what_is_known():
    names = {}
    (example,) = examples("docs/known.md")
    exec(example, names)
    assert names["drawn"].shape == (4, 1, 8, 8)
    seen, known, ids = names["env"].ids, names["known"], names["ids"]
    assert seen[known].tolist() == ids[known].tolist()
    assert (seen[~known] == names["bundle"].nat.mask_id).all()


def decoded(env):
    """Final images, labels and rewards of an episode of each sub-environment."""
    env.reset(seed=0)
    for _ in range(env.num_steps):
        _, rewards, terminated, _, _ = env.step(np.zeros((64, 4), np.float32))
    assert terminated.all()
    return env.final_images.numpy(), env.final_conditions.numpy(), rewards


COMMANDS = sorted(
    {
        command.split("#")[0].strip()
        for page in PAGES
        for command in re.findall(
            r"^(?:\| `|    )(?:accelerate launch .* -m nat_env )?(nat-[^`\n]*)",
            page.read_text("utf-8"),
            re.MULTILINE,
        )
    }
)


class Parsed(BaseException):
    """The arguments were accepted; what comes next would take long."""


def stopped(options):
    raise Parsed


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_take_these_arguments(command, monkeypatch):
    name, *arguments = shlex.split(command)
    if "--resume" in arguments:  # what a run's folder would say
        arguments = ["fashion", *(word for word in arguments if word != "--resume")]
    monkeypatch.setattr(command_line, "_set_up_torch", stopped)
    with pytest.raises(Parsed):
        command_line.run_command(name, COMMANDS_BY_NAME[name], arguments)


def test_the_list_of_commands_is_complete():
    assert COMMANDS_BY_NAME.keys() == {shlex.split(command)[0] for command in COMMANDS}


def test_every_command_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"].keys() == COMMANDS_BY_NAME.keys()
    for name, place in project["scripts"].items():
        assert load(place).args == (name, COMMANDS_BY_NAME[name])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """To a file, and where a heading is named, to a heading of it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in slugs, target


def test_readme_is_one_page():
    assert len(PAGES[0].read_text("utf-8").splitlines()) <= 150
