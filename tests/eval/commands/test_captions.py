"""nat-eval --prompts: the captions of a file in place of a bundle's prompts."""

import numpy as np
import pytest
from PIL import Image

import eval.commands.nat_eval
from eval.commands.arguments import Eval
from eval.commands.nat_eval import run
from eval.evaluation.rows import Results
from eval.judges.clip import Agreement

CAPTIONS = ["aaa b bb", "ccc", "a b c dd"]


@pytest.fixture
def evaluated(toy_text, text_folder, tmp_path, monkeypatch):
    """Evaluate these captions by "how dark, for each letter", and give all rows that there are."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    calls = []

    def agreement(bundle, path, prompt):
        names = bundle.conditions.names

        def score(images, conditions):
            calls.append(len(images))
            return toy_text.darkness(images, [names[number] for number in conditions.tolist()])

        return Agreement("clip@toy", f"{len(names)} prompts", score)

    monkeypatch.setattr(eval.commands.nat_eval, "clip_agreement", agreement)

    def evaluate(captions, **options):
        (tmp_path / "captions.txt").write_text("\n".join(captions))
        given = {"clip": tmp_path, "prompts": tmp_path / "captions.txt", "pictures": False}
        given |= {"bundle": str(text_folder)} | options
        found = run(
            Eval(
                policies=("heuristic",), out=tmp_path / "out", num_steps=2, num_samples=6,
                progress=False, dtype="float32", threads=1, **given,
            )
        )  # fmt: skip
        return Results(tmp_path / "out" / "results.json").rows, calls, found

    return evaluate


def expected(toy_text, captions):
    return np.mean([(1 - toy_text.drawn(c).mean().item()) * len(c) for c in captions])


def test_the_captions_are_what_is_drawn_and_told_apart(toy_text, evaluated):
    (row,), calls, _ = evaluated(CAPTIONS)
    assert row["clip_score"] == pytest.approx(expected(toy_text, CAPTIONS), rel=1e-5)
    assert calls == [6]
    evaluated(CAPTIONS)
    assert calls == [6]  # the row was there
    other = [*CAPTIONS[:2], "bbb"]
    rows, *_ = evaluated(other)
    assert len(rows) == 2 and len(calls) == 2  # of as many captions, beside the first
    found = [r["clip_score"] for r in rows]
    assert found == pytest.approx([expected(toy_text, c) for c in (CAPTIONS, other)], rel=1e-5)


def test_without_a_file_they_are_the_bundles_own(toy_text, evaluated):
    (row,), *_ = evaluated(CAPTIONS, prompts=None)
    assert row["clip_score"] == pytest.approx(expected(toy_text, ["a bb", "ccc d"]), rel=1e-5)


def test_what_needs_a_judge_says_what_to_give(evaluated, tmp_path):
    with pytest.raises(ValueError, match=r"^bundle: 'toy' has no yardstick: .*\(--clip\)"):
        evaluated(CAPTIONS, clip=None)
    with pytest.raises(ValueError, match=r"^prompts: .* of bundle 'digits' are classes"):
        evaluated(CAPTIONS, bundle="digits")
    assert not (tmp_path / "out" / "results.json").exists()


def test_pictures_are_of_a_few_captions_however_many_and_long_they_are(
    toy_text, evaluated, tmp_path, monkeypatch
):
    drawn = []
    decode = toy_text.Squares.decode

    def counted(self, ids):
        drawn.append(len(ids))
        return decode(self, ids)

    monkeypatch.setattr(toy_text.Squares, "decode", counted)
    many = [f"{'a' * (1 + n)} {'b' * (2 + n % 7)}" for n in range(300)]
    _, _, (_, pictures) = evaluated(many, pictures=True)
    assert {path.stem.split("_")[0] for path in pictures} >= {"samples"}
    assert sum(drawn) < 800  # 8 of each of 300 would be 2400
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.width < 3000
