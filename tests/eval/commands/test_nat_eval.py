"""nat-eval: rows, table, resumption and errors."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

import eval.commands.nat_eval
import eval.comparison
import eval.evaluation.cells
import eval.judges.references
from eval.commands.arguments import Eval
from eval.commands.nat_eval import run
from eval.evaluation.floors import floors
from eval.evaluation.measure import measure
from eval.evaluation.rows import stamp
from eval.evaluation.tables import markdown_table
from eval.judges.judge import Judge, bundle_judge
from eval.judges.names import JUDGES, JudgeName
from eval.judges.references import reference
from nat_env.commands import entry
from nat_env.policies import ScheduledPolicy
from nat_env.schedules import heuristic_schedule

JUDGE_NAMES = get_args(JudgeName)
NEEDED = {"bundle", "policy", "num_steps", "seed", "judge", "num_samples", "frechet_distance"}
NEEDED |= {"passes", "images_per_second", "seconds", "date", "machine", "command", "reference"}


@pytest.fixture
def arguments(tmp_path, make_run) -> Eval:
    return Eval(
        policies=("heuristic", str(make_run())),
        out=tmp_path / "out",
        num_steps=2,
        num_samples=40,
        seeds=(0, 1),
        batch_size=16,
        judges=(),
        threads=1,
        dtype="float32",
        pictures=False,
        progress=False,
    )


@pytest.fixture
def evaluations(monkeypatch) -> list[tuple[int, list[str]]]:
    """What is evaluated from here on: seed and judges."""
    calls = []

    def spy(bundle, policy, num_steps, num_samples, seed, judges, *rest, **options):
        calls.append((seed, [judged.judge.name for judged in judges]))
        return measure(bundle, policy, num_steps, num_samples, seed, judges, *rest, **options)

    monkeypatch.setattr(eval.evaluation.cells, "measure", spy)
    return calls


@pytest.fixture
def other_judges(monkeypatch) -> None:
    """Judges that are called what they are asked for as, and look at a pixel less each time."""

    def judge(name, resolution, device):
        first = JUDGE_NAMES.index(name)
        return Judge(
            f"{name}@{resolution}", lambda images: images.flatten(1)[:, first:3], is_fixed=True
        )

    monkeypatch.setattr(eval.judges.references, "independent_judge", judge)


def stored(arguments):
    return json.loads((arguments.out / "results.json").read_text())["rows"]


def test_results_hold_every_seed_of_every_policy(arguments, digits):
    table, _ = run(arguments)
    rows = stored(arguments)
    assert all(row.keys() >= NEEDED for row in rows)
    assert all((row["device"], row["dtype"]) == ("cpu", "float32") for row in rows)
    limits = json.loads((arguments.out / "results.json").read_text())["floors"]
    provenances = {"date", "machine", "commit", "command"}
    assert limits and all(floor.keys() >= provenances for floor in limits)
    learned = "learned"
    assert [(row["policy"], row["seed"]) for row in rows] == [
        ("heuristic", 0), ("heuristic", 1), (learned, 0), (learned, 1),
    ]  # fmt: skip
    direct = measure(
        digits,
        ScheduledPolicy(heuristic_schedule(2)),
        2,
        40,
        1,
        [reference(digits, bundle_judge(digits))],
        batch_size=16,
    )
    expected = direct.frechet_distances["digits-judge"]
    assert rows[1]["frechet_distance"] == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(
        rows[1]["actions"]["sampling_temperature"]["mean"], direct.quantities.mean[:, 1]
    )
    assert (arguments.out / "table.md").read_text() == table + "\n"


def test_a_run_for_every_seed_is_one_policy(arguments, make_run, tmp_path):
    for seed in (0, 1):
        make_run(f"run{seed}", weights=seed)
    template = str(tmp_path / "run{seed}")
    table, _ = run(replace(arguments, policies=("heuristic", template)))
    found = {
        r["seed"]: r["frechet_distance"] for r in stored(arguments) if r["policy"] == "learned"
    }
    for seed in (0, 1):
        alone = replace(
            arguments,
            policies=(str(tmp_path / f"run{seed}"),),
            seeds=(seed,),
            out=tmp_path / f"alone{seed}",
        )
        run(alone)
        assert found[seed] == stored(alone)[0]["frechet_distance"]
    mean, spread = np.mean(list(found.values())), np.std(list(found.values()), ddof=1)
    (line,) = (line for line in table.split("\n\n")[0].splitlines() if "| learned |" in line)
    assert f"{mean:.2f} ± {spread:.2f}" in line


def test_the_table_gives_mean_and_spread_over_seeds(arguments):
    table = run(arguments)[0].split("\n\n")[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    by_name = {cells[0]: cells for cells in lines if cells}
    means = []
    for policy in ("heuristic", "learned"):
        distances = [r["frechet_distance"] for r in stored(arguments) if r["policy"] == policy]
        means.append(np.mean(distances))
        assert by_name[policy][1:4] == ["2", "2.00", "digits-judge, N = 40"]
        assert by_name[policy][4] == f"{np.mean(distances):.2f} ± {np.std(distances, ddof=1):.2f}"
    assert by_name["heuristic"][5] == ""
    change = float(by_name["learned"][5].removesuffix(" %"))
    assert change == pytest.approx(100 * (means[1] / means[0] - 1), abs=0.51)
    assert {"(real images, against others)", "(tokenizer's reconstructions)"} <= set(by_name)
    assert "Images held out of training: FD 0.08 (360 test images" in run(arguments)[0]


def test_the_table_keeps_apart_what_does_not_compare():
    row = {"bundle": "b", "policy": "p", "num_steps": 4, "num_samples": 9, "judge": "j", "seed": 0}
    row |= {"frechet_distance": 1.0, "class_accuracy": 1.0, "seconds": 1.0, "images_per_second": 9}
    changes = [("judge", "other"), ("num_steps", 8), ("num_samples", 99)]
    rows = [row | {key: value} for key, value in changes]
    lines = [line for line in markdown_table([row, *rows]).splitlines() if "1.00" in line]
    assert len(set(lines)) == 4
    assert all("| 1.00 | | 1 |" in line for line in lines)
    assert lines[0].startswith("| p | 4 | 4.00 | j, N = 9 |")  # a row of before passes were counted
    counted = markdown_table([row | {"passes": 2.5}, row | {"passes": 3.0, "seed": 1}])
    assert "| p | 4 | 2.75 | j, N = 9 |" in counted
    with pytest.raises(ValueError, match="those of one bundle"):
        markdown_table([row, row | {"bundle": "c"}])


def test_a_rerun_computes_nothing(arguments, evaluations):
    first, _ = run(arguments)
    assert len(evaluations) == 4
    text = (arguments.out / "results.json").read_text()
    assert run(arguments)[0] == first
    assert len(evaluations) == 4
    assert (arguments.out / "results.json").read_text() == text


def test_a_stopped_run_loses_nothing(arguments, evaluations, monkeypatch):
    spied = eval.evaluation.cells.measure

    def stops(*values, **options):
        if len(evaluations) == 2:
            raise KeyboardInterrupt
        return spied(*values, **options)

    monkeypatch.setattr(eval.evaluation.cells, "measure", stops)
    with pytest.raises(KeyboardInterrupt):
        run(arguments)
    assert len(stored(arguments)) == 2
    monkeypatch.setattr(eval.evaluation.cells, "measure", spied)
    run(arguments)
    assert len(stored(arguments)) == len(evaluations) == 4


def test_only_what_is_missing_is_added(arguments, evaluations, other_judges, make_run):
    run(arguments)
    del evaluations[:]
    run(replace(arguments, seeds=(0, 1, 2)))
    assert evaluations == [(2, ["digits-judge"])] * 2
    lite0, lite2 = (f"{name}@112" for name in JUDGE_NAMES)
    run(replace(arguments, judges=JUDGE_NAMES[:1]))
    assert evaluations[2:] == [(0, [lite0]), (1, [lite0])] * 2
    del evaluations[2:]
    run(replace(arguments, judges=JUDGE_NAMES))
    assert evaluations[2:] == [(0, [lite2]), (1, [lite2])] * 2
    assert len(stored(arguments)) == 6 + 4 + 4
    make_run(weights=5)  # trained on: the same folder, another policy
    run(arguments)
    assert evaluations[6:] == [(0, ["digits-judge"]), (1, ["digits-judge"])]
    assert len(stored(arguments)) == 14


def test_shuffled_features_are_rows_of_their_own(arguments, evaluations):
    run(replace(arguments, seeds=(0,), shuffle_features=True))
    rows = stored(arguments)
    learned = "learned"
    assert [row["policy"] for row in rows] == [
        "heuristic", learned, f"{learned}, features shuffled",
    ]  # fmt: skip
    assert [row["features_shuffled"] for row in rows] == [False, False, True]
    assert rows[1]["frechet_distance"] != rows[2]["frechet_distance"]
    with pytest.raises(ValueError, match="a run folder among the policies"):
        run(replace(arguments, policies=("heuristic",), bundle="digits", shuffle_features=True))


def test_pictures(arguments):
    _, pictures = run(replace(arguments, pictures=True, seeds=(0,)))
    assert [path.name.split("_")[0] for path in pictures] == [
        "distances",
        "samples",
        "quantities",
        "steps",
    ]
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert np.asarray(picture).std() > 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policies", "nonsense", "--bundle", "digits"], "got 'nonsense', allowed are"),
        (["--policies", "heuristic", "--bundle", "nonsense"], "bundle: got 'nonsense', allowed"),
        (["--policies", "heuristic", "--bundle", "digits", "--num-steps", "0"], "num_steps: got 0"),
    ],
)
def test_errors_end_the_command_with_a_message(monkeypatch, tmp_path, options, message):
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["nat-eval", *options, "--out", str(out), "--threads", "1"])
    with pytest.raises(SystemExit, match=rf"nat-eval: .*{message}"):
        entry.evaluate()
    assert not out.exists()


@pytest.mark.parametrize(
    "change",
    [{"policies": ()}, {"seeds": ()}, {"threads": 0}, {"num_samples": 1}, {"seeds": (0, -1)}],
)
def test_numbers_are_checked_before_anything_is_done(arguments, change):
    with pytest.raises(ValueError, match="got"):
        replace(arguments, **change)


def test_a_damaged_results_file_is_not_overwritten(arguments):
    arguments.out.mkdir()
    (arguments.out / "results.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        run(arguments)
    assert (arguments.out / "results.json").read_text() == "{"


def test_a_folder_that_cannot_be_written(arguments, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write"):
        run(replace(arguments, out=tmp_path / "file" / "out"))


def test_metrics_are_added_to_rows_that_lack_them_and_then_kept(arguments, evaluations):
    one = replace(arguments, policies=("heuristic",), bundle="digits", seeds=(0,))
    plain, _ = run(one)
    assert "precision" not in plain and "precision" not in stored(one)[0]
    table, _ = run(replace(one, metrics=True))
    (row,) = stored(one)
    assert len(evaluations) == 2 and row["num_real"] == 10 * 133
    assert f"| {row['precision']:.3f} | {row['recall']:.3f} |" in table
    assert run(replace(one, metrics=True))[0] == table
    assert "precision" not in run(one)[0] and len(evaluations) == 2


def test_old_floors_are_completed_once(arguments, monkeypatch):
    one = replace(arguments, policies=("heuristic",), bundle="digits", seeds=(0,))
    run(one)
    path = one.out / "results.json"
    results = json.loads(path.read_text())
    # As earlier releases wrote them: no others, and rows without a score.
    results["floors"] = [f for f in results["floors"] if f["floor"] != "real others"]
    for row in [*results["rows"], *results["floors"]]:
        row.pop("score", None), row.pop("score_std", None)
    path.write_text(json.dumps(results))
    calls = []

    def spy(bundle, judges, *rest):
        calls.append(judges[0].judge.name)
        return floors(bundle, judges, *rest)

    monkeypatch.setattr(eval.comparison, "floors", spy)
    table, _ = run(one)
    assert calls == ["digits-judge"] and "| (real images, against others) |" in table
    run(one)
    assert calls == ["digits-judge"]
    table, _ = run(replace(one, metrics=True))
    assert run(replace(one, metrics=True))[0] == table
    assert calls == ["digits-judge"] * 2


def test_the_metrics_table_ends_with_what_real_images_reach(arguments):
    one = replace(arguments, policies=("heuristic",), bundle="digits", seeds=(0,), metrics=True)
    table, _ = run(one)
    rows = json.loads((one.out / "results.json").read_text())
    metrics = table.split("| score |")[1].splitlines()[2:]
    named = [("heuristic", rows["rows"][0])]
    by_floor = {floor["floor"]: floor for floor in rows["floors"]}
    named.append(("(tokenizer's reconstructions)", by_floor["reconstruction"]))
    named.append(("(real images, against others)", by_floor["real others"]))
    for line, (name, row) in zip(metrics, named, strict=False):
        kernel, error = 1000 * row["kernel_distance"], 1000 * row["kernel_distance_error"]
        shares = [f"{row[m]:.3f}" for m in ("precision", "recall", "density", "coverage")]
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        assert cells[0] == name and cells[2] == f"digits-judge, N = {row['num_samples']}"
        assert cells[3:] == [*shares, f"{kernel:.2f} ± {error:.2f}", f"{row['score']:.2f}"]
    assert metrics[len(named)] == ""


def test_inception_compares_with_a_files_statistics(arguments, tmp_path, monkeypatch, evaluations):
    def network(images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)

    judge = Judge("inception-v3", network, classifier=lambda features: 9 * features)
    monkeypatch.setattr(eval.commands.nat_eval, "inception_v3", lambda path, device: judge)
    path = tmp_path / "stats.npz"
    one = replace(arguments, policies=("heuristic",), bundle="digits", seeds=(0,))
    one = replace(one, inception=tmp_path / "weights.pth", metrics=True)
    standard = replace(one, inception_statistics=path)
    np.savez(path, mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(ValueError, match="D = 3, allowed is D = 4"):
        run(standard)
    assert not evaluations and not (one.out / "results.json").exists()
    np.savez(path, mu=np.full(4, 0.5), sigma=np.eye(4))
    table, _ = run(standard)
    row = stored(one)[1]
    assert "precision" in stored(one)[0] and "precision" not in row
    assert f"| inception-v3, N = 40 | | | | | | {row['score']:.2f} |" in table
    assert run(standard)[0] == table and len(evaluations) == 1

    # Two references never share a row.
    run(one)
    assert evaluations[1:] == [(0, ["inception-v3"])]
    own = stored(one)[1]
    assert own["reference"] == "1437 training images, classes alike" and "precision" in own
    assert own["frechet_distance"] != row["frechet_distance"]
    with pytest.raises(ValueError, match=r"inception_statistics: got .* only with inception"):
        replace(standard, inception=None)


def test_policies_take_a_name_and_the_last_of_a_run(arguments, make_run):
    folder = make_run("named")
    (folder / "last.safetensors").write_bytes(
        (make_run("other", weights=5) / "best.safetensors").read_bytes()
    )
    names = (f"one={folder}", f"two={folder}/last.safetensors")
    run(replace(arguments, policies=names, seeds=(0,)))
    one, two = stored(arguments)
    assert (one["policy"], two["policy"]) == ("one", "two")
    assert one["policy_fingerprint"] != two["policy_fingerprint"]
    with pytest.raises(ValueError, match="two are named 'one'"):
        run(replace(arguments, policies=(f"one={folder}", "one=heuristic")))


def test_rows_of_a_policy_that_is_gone_can_be_kept(arguments, evaluations):
    heuristic, learned = arguments.policies
    table, _ = run(arguments)
    folder = Path(learned)
    folder.rename(folder.with_name("moved"))
    evaluations.clear()
    with pytest.raises(ValueError, match=r"^policy: got .* allowed"):
        run(arguments)
    arguments = replace(arguments, kept_rows=True, bundle="digits", pictures=True)
    kept, pictures = run(arguments)
    assert kept == table and evaluations == []
    assert not any("moved" in p.name or folder.name in p.name for p in pictures)
    for change in ({"num_samples": 41}, {"metrics": True}, {"seeds": (0, 1, 2)}):
        with pytest.raises(ValueError, match=r"^policies: the file of .* is gone"):
            run(replace(arguments, **change))
    assert evaluations == []
    # One that is there is computed beside it, of the seeds that are missing.
    run(replace(arguments, policies=(heuristic, learned, "heuristic(2, 1, 1)")))
    assert [seed for seed, _ in evaluations] == [0, 1]


def test_rows_of_another_dtype_are_kept_where_that_is_asked_for(arguments, evaluations):
    arguments = replace(arguments, policies=("heuristic",), bundle="digits", dtype="float32")
    table, _ = run(arguments)
    evaluations.clear()
    arguments = replace(arguments, dtype="bfloat16")
    assert run(replace(arguments, kept_rows=True))[0] == table and evaluations == []
    run(arguments)
    assert [seed for seed, _ in evaluations] == [0, 1]


def test_too_few_samples_for_a_covariance_are_refused(arguments, evaluations):
    with pytest.raises(ValueError, match=r"^num_samples: got 32, allowed is > 32, .* digits-judge"):
        run(replace(arguments, num_samples=32))
    assert not evaluations and not (arguments.out / "results.json").exists()


def test_too_few_samples_for_another_judge_are_refused_before_it_sees_all_real_images(
    arguments, evaluations, monkeypatch
):
    seen = []

    def network(images):
        seen.append(len(images))
        return torch.zeros(len(images), 999)

    judge = Judge("wide", network)
    monkeypatch.setattr(eval.judges.references, "independent_judge", lambda *_, **__: judge)
    with pytest.raises(ValueError, match=r"^num_samples: got 100, allowed is > 999, .* wide"):
        run(replace(arguments, num_samples=100, judges=JUDGES))
    with pytest.raises(ValueError, match=r"or leave the judge efficientnet-lite0 out \(--judges"):
        run(replace(arguments, num_samples=1000, judge_images=500, judges=JUDGES))
    assert sum(seen) < 10 and not evaluations
    assert not list(arguments.out.glob("*"))


def test_inception_judges_from_its_weights_file(arguments, tmp_path, monkeypatch):
    one = replace(arguments, policies=("heuristic",), bundle="digits", seeds=(0,))
    with pytest.raises(ValueError, match="absent"):
        run(replace(one, inception=tmp_path / "absent.pth"))
    assert not (one.out / "results.json").exists()
    judge = Judge("inception-v3", lambda images: images.flatten(1)[:, :3])
    monkeypatch.setattr(eval.commands.nat_eval, "inception_v3", lambda path, device: judge)
    run(replace(one, inception=tmp_path / "weights.pth"))
    assert [row["judge"] for row in stored(one)] == ["digits-judge", "inception-v3"]


def test_a_row_says_which_code_made_it():
    root = Path(eval.commands.nat_eval.__file__).parents[2]
    head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True)
    found = stamp()["commit"]
    if head.returncode or not (root / ".git").exists():
        assert found is None  # installed without its repository
    else:
        abbreviated = found.removesuffix("-dirty").rpartition("-g")[2]
        assert len(abbreviated) >= 7 and head.stdout.startswith(abbreviated)


def test_too_few_real_images_for_inception_are_refused_before_it_sees_them(
    arguments, tmp_path, monkeypatch, digits
):
    seen = []

    def network(images):
        seen.append(len(images))
        return torch.zeros(len(images), 1500)

    judge = Judge("inception-v3", network)
    monkeypatch.setattr(eval.commands.nat_eval, "inception_v3", lambda path, device: judge)
    asked = replace(arguments, inception=tmp_path / "w.pth", num_samples=1600)
    there = len(digits.require("reals").conditions)
    with pytest.raises(ValueError, match=rf"^real images: got {there}, allowed is > 1500"):
        run(asked)
    assert sum(seen) < 10
