"""nat-search --prompts: one schedule for the captions of a file."""

import json
import shlex

import numpy as np
import pytest

from nat_env.commands.command_line import run_command
from nat_env.commands.entry import COMMANDS

CAPTIONS = ["aaa b bb", "ccc", "a b c dd"]


@pytest.fixture
def searched(toy_text, text_folder, tmp_path, monkeypatch):
    """Search by the command, and give its scores."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "captions.txt").write_text("\n".join(CAPTIONS))

    def search(*words):
        given = ["--bundle", str(text_folder), "--out", str(tmp_path / "out"), "--num-steps", "2"]
        given += ["--prompts", str(tmp_path / "captions.txt"), "--budget", "12", "--num-samples"]
        run_command("nat-search", COMMANDS["nat-search"], ["cma", *given, "6", *words])
        lines = (tmp_path / "out" / "trials.jsonl").read_text().splitlines()
        return [json.loads(line)["value"] for line in lines]

    return search


def dark_by_letters(toy_text):
    scores = [(1 - toy_text.drawn(text).mean().item()) * len(text) for text in CAPTIONS]
    return float(np.mean(scores))


def test_schedules_are_scored_on_the_captions(toy_text, searched):
    light = np.mean([toy_text.drawn(text).mean().item() for text in CAPTIONS])
    assert searched("--objective", "toy_text:light") == pytest.approx([-light] * 2, abs=1e-6)


def test_an_objective_may_be_a_reward_with_options(toy_text, searched):
    objective = '{"name": "prompt", "score": "toy_text:darkness"}'
    found = searched("--objective", objective)
    assert found == pytest.approx([-dark_by_letters(toy_text)] * 2, abs=1e-5)


def test_numbers_in_a_list_are_an_objective_too(toy_text, searched, monkeypatch):
    def listed(images, prompts):
        return toy_text.darkness(images, prompts).tolist()

    monkeypatch.setattr(toy_text, "listed", listed, raising=False)
    found = searched("--objective", '{"name": "prompt", "score": "toy_text:listed"}')
    assert found == pytest.approx([-dark_by_letters(toy_text)] * 2, abs=1e-5)


def test_other_captions_are_another_search(searched, tmp_path):
    searched("--objective", "toy_text:light")
    before = (tmp_path / "out" / "trials.jsonl").read_bytes()
    (tmp_path / "captions.txt").write_text("aaa b bb\n")
    with pytest.raises(SystemExit, match=r"^nat-search: out: .* was made with prompts = "):
        searched("--objective", "toy_text:light")
    assert (tmp_path / "out" / "trials.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--objective judge", r"bundle: 'toy' has no yardstick: .*an objective of your own"),
        ("--objective {name", r"objective: got '\{name', allowed is a name or a JSON object"),
        ("--objective toy_text:light --prompts no.txt", r"prompts: 'no.txt' is no file"),
        ("--objective toy_text:light --bundle digits", r"prompts: .* of bundle 'digits' are class"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(searched, tmp_path, words, message):
    with pytest.raises(SystemExit, match=f"^nat-search: {message}"):
        searched(*shlex.split(words))
    assert not (tmp_path / "out").exists()


def test_captions_that_the_table_has_need_no_text_encoder(
    toy_text, searched, text_folder, tmp_path
):
    description = json.loads((text_folder / "bundle.json").read_text())
    gone = {name for name in description["files"] if name.startswith("text_encoder")}
    description["files"] = {k: v for k, v in description["files"].items() if k not in gone}
    del description["text_encoder"]
    (text_folder / "bundle.json").write_text(json.dumps(description))
    (tmp_path / "captions.txt").write_text("ccc d\n")
    light = toy_text.drawn("ccc d").mean().item()
    assert searched("--objective", "toy_text:light") == pytest.approx([-light] * 2, abs=1e-6)
    (tmp_path / "captions.txt").write_text("ccc d\nnew\n")
    with pytest.raises(SystemExit, match=r"^nat-search: bundle: 'toy' has no text_encoder"):
        searched("--objective", "toy_text:light", "--out", str(tmp_path / "other"))
