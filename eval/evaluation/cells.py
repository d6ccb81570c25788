"""A line of a comparison: a contestant with one seed under all judges, computed where missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from eval.evaluation.fingerprint import policy_fingerprint, prompts_of, version_of
from eval.evaluation.measure import measure
from eval.evaluation.policies import Contestant, for_seed, is_trained_by
from eval.evaluation.rows import Results, Row, evaluation_rows, has_distance
from eval.judges.clip import Agreement
from eval.judges.references import Reference
from nat_env.bundles.bundle import Bundle
from nat_env.parallel.processes import ALONE, Processes
from nat_env.policies import DecodingPolicy


@dataclass(frozen=True)
class Cell:
    """A contestant with one seed: a row for each judge."""

    bundle: Bundle
    contestant: Contestant
    num_steps: int
    num_samples: int
    seed: int
    judges: Sequence[Reference]
    results: Results
    batch_size: int | None
    progress: bool
    uniform: bool = False
    """Draw each sample's class, instead of taking them in turn."""
    agreements: Sequence[Agreement] = ()
    """Of images and their prompts."""
    kept_rows: bool = False
    """Take a row of the same policy in another dtype or on another device, too."""
    processes: Processes = ALONE
    """That share the decoding of what is computed."""

    def check(self) -> None:
        """Refuse what can be neither found nor computed.

        Raises:
            ValueError: the policy's file is gone, and not all of its rows are kept.
        """
        if self.policy is None and self.is_missing:
            raise ValueError(
                f"policies: the file of {self.contestant.name!r}, seed {self.seed}, is gone, and "
                f"{self.results.path} has not all of its rows for this bundle, T = "
                f"{self.num_steps} and N = {self.num_samples}"
            )

    def rows(self) -> list[Row]:
        """Those there are, and the others computed; the main process writes and has them."""
        name, (missing, unsaid) = self.contestant.name, self._shared(self._missing())
        computed = bool(missing or unsaid)
        if computed and self.policy is not None:
            evaluation = measure(
                self.bundle,
                self.policy,
                self.num_steps,
                self.num_samples,
                self.seed,
                missing,
                self.batch_size,
                f"{name}, seed {self.seed}" if self.progress else None,
                self.contestant.shuffled,
                self.uniform,
                unsaid,
                processes=self.processes,
            )
            if self.processes.is_main:
                rows = evaluation_rows(self._identity, evaluation, missing, unsaid)
                launch = {"processes": n} if (n := self.processes.count) > 1 else {}
                self.results.add([row | self._kinship(row["judge"]) | launch for row in rows])
        if not self.processes.is_main:
            return []
        rows = self.kept()
        if self.progress:
            _report(rows, "" if computed else " (was there)")
        return rows

    def kept(self) -> list[Row]:
        """Those there are."""
        found = [*map(self._row, self.judges), *map(self._row, self.agreements)]
        return [row for row in found if row]

    @property
    def is_missing(self) -> bool:
        """Whether there is less than all that is measured."""
        return any(self._missing())

    def _kinship(self, judge: str) -> Row:
        if self.contestant.spec is None:
            return {}
        spec = for_seed(self.contestant.spec, self.seed)
        return {"judge_gave_reward": True} if is_trained_by(spec, judge, self.bundle) else {}

    @property
    def policy(self) -> DecodingPolicy | None:
        """With this seed."""
        return self.contestant.by_seed[self.seed]

    @cached_property
    def _identity(self) -> Row:
        """What determines the rows."""
        identity = {
            "bundle": self.bundle.name,
            "bundle_fingerprint": self.bundle.fingerprint,
            "policy": self.contestant.name,
            "features_shuffled": self.contestant.shuffled,
            "num_steps": self.num_steps,
            "seed": self.seed,
            "num_samples": self.num_samples,
            "conditions": "uniform" if self.uniform else "balanced",
        }
        identity |= prompts_of(self.bundle.conditions)
        if self.policy is None:  # from another machine, perhaps of another dtype
            return identity
        if self.contestant.shuffled:  # within a batch
            identity["batch_size"] = self.batch_size or self.bundle.nat.rows_per_pass
        return identity | {
            "decoder_dtype": self.bundle.decoder_dtype,
            "policy_fingerprint": policy_fingerprint(self.policy),
            "dtype": self.bundle.dtype,
            "device": self.bundle.device.type,
        }

    def _row(self, asked: Reference | Agreement) -> Row | None:
        identity = self._identity | {"reference": asked.description}
        if isinstance(asked, Reference):
            identity |= {"judge": asked.judge.name} | version_of(asked.judge)
        else:
            identity["judge"] = asked.name
        if self.kept_rows:
            for name in ("dtype", "device", "decoder_dtype"):
                identity.pop(name, None)
        return self.results.find(identity)

    def _shared(
        self, found: tuple[list[Reference], list[Agreement]]
    ) -> tuple[list[Reference], list[Agreement]]:
        """What the main process misses, whatever the others see of its files."""
        names = {judged.judge.name for judged in found[0]} | {one.name for one in found[1]}
        names = self.processes.from_main(names)
        return (
            [judged for judged in self.judges if judged.judge.name in names],
            [agreement for agreement in self.agreements if agreement.name in names],
        )

    def _missing(self) -> tuple[list[Reference], list[Agreement]]:
        """What there are no rows of, or some of a release that measured less."""
        return (
            [judged for judged in self.judges if not complete(self._row(judged), judged)],
            [agreement for agreement in self.agreements if not self._row(agreement)],
        )


def complete(row: Row | None, judged: Reference) -> bool:
    """Whether a row holds all that is measured with this reference today."""
    if row is None or judged.embeddings is None:
        return row is not None
    return "precision" in row and row["num_real"] == len(judged.embeddings)


def _report(rows: list[Row], note: str) -> None:
    found = [f"FD {r['frechet_distance']:.2f} ({r['judge']})" for r in rows if has_distance(r)]
    found += [f"CLIP score {r['clip_score']:.4f}" for r in rows if not has_distance(r)]
    about = rows[0]
    print(
        f"{about['policy']}, seed {about['seed']}: {', '.join(found)}, N = {about['num_samples']}, "
        f"{about['images_per_second']:.0f} images/s{note}",
        flush=True,
    )
