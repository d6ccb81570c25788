"""Reinforcement learners compared, from scratch, at equal budgets of generated images.

Every learner of `nat-train --algo` on one bundle, with its default options.
"""

from agents.learners.algorithms import ALGORITHMS
from eval.studies.arguments import Learners
from eval.studies.learning import compare


def command(arguments: Learners) -> str:
    """Train by the learners asked for, and compare; see `eval.studies.learning.compare`."""
    names = arguments.algos or tuple(ALGORITHMS)
    trainings = {name: (ALGORITHMS[name].about, {"algo": name}) for name in names}
    return compare(arguments, "algorithms", trainings)
