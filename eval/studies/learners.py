"""Reinforcement learners compared, from scratch, at equal budgets of generated images.

Every learner of `nat-train --algo` on one bundle, with its default options.

    python -m eval.studies.learners --bundle fashion --out runs/algorithms
"""

from dataclasses import dataclass
from typing import ClassVar

from agents.learners.algorithms import ALGORITHMS
from eval.studies.learning import Changes, Trainings, chosen, run_command
from nat_env.commands.parsing import parse


@dataclass(frozen=True)
class Arguments(Trainings):
    """Train a policy by every learner and seed, and compare what the last ones decode.

    Writes algorithms.md, results.json and the learning curves, curves.png. Called again, it goes on
    where it stopped: by a seed or a learner more, if asked for more.
    """

    algos: tuple[str, ...] = ()
    """Some of the learners by name, see `nat-train --algo`; by default all."""

    subject: ClassVar[str] = "algorithms"

    @property
    def trainings(self) -> Changes:
        """One for each learner.

        Raises:
            ValueError: an unknown learner.
        """
        every = {name: (learner.about, {"algo": name}) for name, learner in ALGORITHMS.items()}
        return chosen("algos", self.algos, every)


def main() -> None:
    """Entry point."""
    run_command(parse, Arguments, "eval.studies.learners")


if __name__ == "__main__":
    main()
