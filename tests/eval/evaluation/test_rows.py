"""results.json: several processes add to one file, or each shard to its own."""

import itertools
import json
import shutil
import subprocess
import sys

from eval.evaluation.rows import Results
from eval.evaluation.tables import provenance

ADD = """
import sys
from pathlib import Path
from eval.evaluation.rows import Results
results = Results(Path(sys.argv[1]), *sys.argv[3:])
print("ready", flush=True)
sys.stdin.readline()
for seed in range(100):
    row = {"bundle": "b", "policy": sys.argv[2], "num_steps": 4, "num_samples": 40, "judge": "j"}
    row["conditions"] = "balanced"
    results.add([row | {"seed": seed}])
    floor = {"bundle": "b", "judge": sys.argv[2], "evaluation_samples": seed}
    results.add_floors([floor])
"""


def add_at_once(path, *writers):
    """Processes that add 100 rows and floors each, all begun at once; they are waited for."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ADD, str(path), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for words in writers
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:  # now, at once
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0


def assert_complete(results):
    expected = [(name, seed) for name in ("one", "other") for seed in range(100)]
    assert sorted((row["policy"], row["seed"]) for row in results.rows) == expected
    assert sorted((f["judge"], f["evaluation_samples"]) for f in results.floors) == expected


def test_two_processes_that_add_rows_lose_none(tmp_path):
    path = tmp_path / "results.json"
    add_at_once(path, ["one"], ["other"])
    assert_complete(Results(path))
    assert [found.name for found in tmp_path.iterdir()] == ["results.json"]


def test_a_shard_and_the_whole_that_gathers_its_rows_lose_none(tmp_path):
    """Whoever comes first: the whole takes a shard's file, which the shard then begins anew."""
    path = tmp_path / "results.json"
    add_at_once(path, ["one", "1-of-2"], ["other"])
    assert_complete(Results(path))
    Results(path).gather()
    assert_complete(Results(path))
    assert [found.name for found in tmp_path.iterdir()] == ["results.json"]


def test_shards_have_files_of_their_own_whose_rows_are_read_together(tmp_path):
    row = dict.fromkeys(("bundle", "policy", "num_steps", "num_samples", "judge"), 1)
    row |= {"device": "cpu", "conditions": "balanced", "decoder_dtype": "float32"}
    first, second = ({"seed": seed, "date": "2026-11-27"} | row for seed in (0, 1))
    for shard, line in (("1-of-2", first), ("2-of-2", second)):
        Results(tmp_path / shard / "results.json", shard).add([line])
        assert [p.name for p in (tmp_path / shard).iterdir()] == [f"results.{shard}.json"]
        shutil.copytree(tmp_path / shard, tmp_path / "all", dirs_exist_ok=True)
    path = tmp_path / "all" / "results.json"
    assert Results(path).rows == Results(path, "1-of-2").rows == [first, second]
    Results(path, "1-of-2").gather()
    assert not path.exists()
    Results(path).gather()
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]
    assert Results(path).rows == json.loads(path.read_text())["rows"] == [first, second]


def test_of_two_rows_of_the_same_line_the_later_one_counts(tmp_path):
    path = tmp_path / "results.json"
    row = {"seed": 0, "policy": "a"}
    days = ("2026-11-25T02:00:00", "2026-11-26T02:00:00", "2026-11-27T02:00:00")
    for days_of_files in itertools.permutations(days):
        for name, day in zip(("", "1-of-2", "2-of-2"), days_of_files, strict=True):
            own = path.with_name(f"results.{name}.json") if name else path
            own.write_text(json.dumps({"rows": [row | {"date": day}], "floors": []}))
        (kept,) = Results(path).rows
        assert kept["date"] == days[-1]


def test_a_row_of_before_is_of_the_cpu_its_decoder_and_balanced_conditions(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(
        json.dumps({"rows": [{"seed": 0}, {"seed": 0, "device": "cuda"}], "floors": []})
    )
    results = Results(path)
    settled = {"seed": 0, "device": "cpu", "conditions": "balanced", "decoder_dtype": "float32"}
    assert results.find({"seed": 0, "device": "cpu"}) == settled
    assert results.find({"decoder_dtype": "bfloat16"}) is None
    assert results.find({"conditions": "uniform"}) is None
    assert results.find({"device": "mps"}) is None


def test_provenance_names_the_accelerator_where_it_was_used():
    machine = {"processor": "x86", "cpu_count": 2, "torch_threads": 1, "torch": "2.9"}
    row = {"date": "2026-11-25T02:00:00", "seed": 0, "command": "a", "machine": machine}
    used = row | {"device": "cuda", "machine": machine | {"accelerator": "Some GPU"}}
    unused = used | {"device": "cpu"}
    text = provenance([row, used, unused])
    assert "2.9; x86, 2 processors, 1 torch threads, torch 2.9, on cuda: Some GPU." in text
