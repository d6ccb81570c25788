"""results.json: several processes add to one file."""

import json
import subprocess
import sys

from eval.evaluation.rows import Results
from eval.evaluation.tables import provenance

ADD = """
import sys
from pathlib import Path
from eval.evaluation.rows import Results
results = Results(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for seed in range(30):
    row = {"bundle": "b", "policy": sys.argv[2], "num_steps": 4, "num_samples": 40, "judge": "j"}
    row["conditions"] = "balanced"
    results.add([row | {"seed": seed}])
    floor = {"bundle": "b", "judge": sys.argv[2], "evaluation_samples": seed}
    results.add_floors([floor])
"""


def test_two_processes_that_add_rows_lose_none(tmp_path):
    path = tmp_path / "results.json"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ADD, str(path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "other")
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
    results = Results(path)
    expected = [(name, seed) for name in ("one", "other") for seed in range(30)]
    assert sorted((row["policy"], row["seed"]) for row in results.rows) == expected
    assert sorted((f["judge"], f["evaluation_samples"]) for f in results.floors) == expected
    assert [found.name for found in tmp_path.iterdir()] == ["results.json"]


def test_a_row_of_before_is_of_the_cpu_and_of_balanced_conditions(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(
        json.dumps({"rows": [{"seed": 0}, {"seed": 0, "device": "cuda"}], "floors": []})
    )
    results = Results(path)
    settled = {"seed": 0, "device": "cpu", "conditions": "balanced"}
    assert results.find({"seed": 0, "device": "cpu"}) == settled
    assert results.find({"conditions": "uniform"}) is None
    assert results.find({"device": "mps"}) is None


def test_provenance_names_the_accelerator_where_it_was_used():
    machine = {"processor": "x86", "cpu_count": 2, "torch_threads": 1, "torch": "2.9"}
    row = {"date": "2026-11-25T02:00:00", "seed": 0, "command": "a", "machine": machine}
    used = row | {"device": "cuda", "machine": machine | {"accelerator": "Some GPU"}}
    unused = used | {"device": "cpu"}
    text = provenance([row, used, unused])
    assert "2.9; x86, 2 processors, 1 torch threads, torch 2.9, on cuda: Some GPU." in text
