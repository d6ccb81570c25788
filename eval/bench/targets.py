"""What the library's speed is held against, each beside what was measured."""

from collections.abc import Iterator, Mapping, Sequence

from eval.bench.growth import IN_A_FILE
from eval.bench.loops import OURS
from eval.bench.report import Row, Section

Parts = Mapping[str, Sequence[Section]]
"""Sections by part of nat-bench, as far as they were measured."""

_GENERATION = {4: 5.0, 8: 4.0}
"""Times the authors' loop, by T."""
_GENERATION_FLOAT32 = {4: 1.6, 8: 1.3}
"""The same where both are in float32, which a machine without fast bfloat16 has to be."""
_NOISE = 0.05
"""Of an exponent that stands for growth in proportion."""
_BOUNDED = 0.2
"""An exponent that stands for no growth but that of a round's images, beside its features."""


def targets(parts: Parts) -> Section:
    """A row for each target that the measured parts say something about."""
    checks = [_decoding, _papers_size, _overhead, _environment, _training, _growth, _start]
    rows = [row for check in checks for row in check(parts)]
    about = "Medians, at the largest batch that was measured. What is missing was not measured."
    return Section("Targets", rows, about)


def _target(what: str, measured: float, at_least: float = 0.0, at_most: float = 0.0) -> Row:
    """One limit, and whether it is kept."""
    reached = measured >= at_least if at_least else measured <= at_most
    goal = f">= {at_least:g}" if at_least else f"<= {at_most:g}"
    return {
        "target": what,
        "goal": goal,
        "measured": measured,
        "verdict": "reached" if reached else "**NOT reached**",
    }


def _rows(parts: Parts, part: str, title: str) -> Sequence[Row]:
    """Of a part's section; none if the part was not measured."""
    return {s.title: s.rows for s in parts[part]}[title] if part in parts else ()


def _largest(parts: Parts, title: str, bundle: str) -> list[Row]:
    """This library's rows on a bundle at its largest batch."""
    rows = _rows(parts, "decode", title)
    own = [r for r in rows if r["bundle"].startswith(bundle) and r["loop"].startswith(OURS)]
    largest = max((row["batch"] for row in own), default=0)
    return [row for row in own if row["batch"] == largest]


def _decoding(parts: Parts) -> Iterator[Row]:
    rows = _largest(parts, "Decoding", "fashion")
    for num_steps, goal in _GENERATION.items():
        ratios = {r["loop"]: r["ratio"].median for r in rows if r["T"] == num_steps}
        if ratios:
            best = max(ratios, key=lambda loop: ratios[loop])
            what = f"fashion, T = {num_steps}, times the authors' loop"
            yield _target(f"{what} ({best})", ratios[best], at_least=goal)
            in_float32 = f"{OURS}, float32"
            if in_float32 in ratios:
                goal = _GENERATION_FLOAT32[num_steps]
                yield _target(f"{what}, both float32", ratios[in_float32], at_least=goal)


def _papers_size(parts: Parts) -> Iterator[Row]:
    rows = _largest(parts, "Decoding", "U-ViT")
    for kept in (True, False):  # the first pass, from batch to batch
        own = [row for row in rows if row["loop"].endswith("anew") != kept]
        if own:
            row = max(own, key=lambda row: row["ratio"].median)
            what = f"{row['bundle']}, T = {row['T']}, times the authors' loop ({row['loop']})"
            yield _target(what, row["ratio"].median, at_least=3)


def _overhead(parts: Parts) -> Iterator[Row]:
    for row in _largest(parts, "Where the decoding time goes", "fashion"):
        where = f"fashion, T = {row['T']}, {row['loop']}"
        outside = 1 - row["nat_share"] - row["tokenizer_share"]
        yield _target(f"{where}: share outside NAT and tokenizer", outside, at_most=0.1)
        yield _target(f"{where}: share of the policy", row["policy_share"], at_most=0.02)
        yield _target(f"{where}: NAT, share of the ceiling", row["of_ceiling_share"], at_least=0.8)


def _environment(parts: Parts) -> Iterator[Row]:
    for row in _rows(parts, "env", "Environment")[:1]:
        what = f"{row['environment']}, times SyncVectorEnv"
        yield _target(what, row["ratio"].median, at_least=20)


def _training(parts: Parts) -> Iterator[Row]:
    for row in _rows(parts, "train", "Training")[:1]:
        outside, update = row["rollout_outside_share"], row["update_to_rollout_share"]
        what = f"{row['learner']}: share of a rollout outside NAT and tokenizer"
        yield _target(what, outside, at_most=0.15)
        yield _target(f"{row['learner']}: update against rollout", update, at_most=0.15)


def _growth(parts: Parts) -> Iterator[Row]:
    for row in _rows(parts, "scale", "Growth: exponents"):
        if row["axis"] == "environments":
            for what in ("time", "memory"):
                name, value = f"exponent of {what} in environments", row[f"{what}_exponent"]
                yield _target(name, value, at_most=1 + _NOISE)
                last = row[f"last_{what}_exponent"]
                yield _target(f"{name}, of the last two sizes", last, at_most=1 + _NOISE)
        elif row["axis"] == IN_A_FILE and "last_memory_exponent" in row:
            name = f"exponent of memory in {IN_A_FILE}, of the last two sizes"
            yield _target(name, row["last_memory_exponent"], at_most=_BOUNDED)


def _start(parts: Parts) -> Iterator[Row]:
    limits = {"import nat_env": 0.5, "gym.make": 0.2}
    for row in _rows(parts, "start", "Start"):
        for name, limit in limits.items():
            if row["what"].startswith(name):
                yield _target(f"seconds of {row['what']}", row["seconds"].median, at_most=limit)
    for row in _rows(parts, "start", "Imported"):
        if row["package"] == "transformers" and row["installed"]:
            imported = row["by_the_first_episode"]
            yield _target("transformers imported by the first episode", imported, at_most=0)
