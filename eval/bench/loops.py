"""The loops that a benchmark compares: this library's and the authors', their phases watched."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from unittest.mock import patch

from eval.bench import peer
from eval.bench.subjects import subject, untrained_network
from eval.evaluation.policies import named_policy
from nat_env.bundles.bundle import balanced_conditions
from nat_env.generation import generate
from nat_env.models.uvit import UViTConfig
from nat_env.policies import DecodingPolicy

PHASES = ("nat", "sampling", "policy", "tokenizer")
AUTHORS = "authors' loop"
OURS = "nat_env"

Around = Callable[[str, Callable[..., Any]], Callable[..., Any]]
"""Gives a function back with something done around its calls, by the name of its phase."""

# By its full name: `nat_env.generation` is the function that the package exports.
_generation: Any = import_module("nat_env.generation")


@dataclass(frozen=True)
class Setting:
    """What is decoded, and how."""

    sizes: str | UViTConfig
    """See `subject`."""
    num_steps: int
    batch_size: int
    policy: str = "untrained"
    hidden_size: int = 512
    """Of the untrained policy network, by default the paper's."""


@dataclass(frozen=True)
class Contestant:
    """A loop with its models: this library's, or the authors'."""

    setting: Setting
    dtype: str
    authors: bool = False
    first_pass_kept: bool = True
    """From batch to batch; False: made anew for the labels of each batch."""

    @property
    def name(self) -> str:
        """To print."""
        anew = "" if self.first_pass_kept else ", first pass anew"
        return f"{AUTHORS if self.authors else OURS}, {self.dtype}{anew}"


def loop(contestant: Contestant) -> Callable[[Around], None]:
    """Load what `contestant` needs.

    Returns:
        Decodes one batch, with what it is given around the functions that make up the `PHASES`.

    Raises:
        ValueError: an unknown bundle or policy.
    """
    setting = contestant.setting
    models: Any = subject(setting.sizes, contestant.dtype)
    nat, tokenizer, num_steps = models.nat, models.tokenizer, setting.num_steps
    policy = _policy(setting, models)
    conditions = balanced_conditions(setting.batch_size, models.num_classes)

    def ours(around: Around) -> None:
        if not contestant.first_pass_kept:
            nat.forget_first_passes()
        with _watched(models, around):
            generate(models, around("policy", policy), conditions, num_steps, 0, len(conditions))

    def theirs(around: Around) -> None:
        with patch.object(peer, "authors_step", around("sampling", peer.authors_step)):
            peer.authors_generate(
                around("nat", nat.transformer),
                around("policy", policy),
                around("tokenizer", tokenizer.decode),
                conditions,
                num_steps,
                nat.num_tokens,
                nat.mask_id,
                nat.null_condition,
            )

    return theirs if contestant.authors else ours


@contextmanager
def _watched(models: Any, around: Around) -> Iterator[None]:
    """`around` at the functions that `generate` calls, for a while."""
    watched = [
        ("nat", models.nat.transformer, "forward"),
        ("sampling", _generation, "decode_step"),
        ("sampling", _generation, "draw_uniforms"),
        ("tokenizer", models.tokenizer, "decode"),
    ]
    with ExitStack() as stack:
        for phase, owner, name in watched:
            stack.enter_context(patch.object(owner, name, around(phase, getattr(owner, name))))
        yield


def _policy(setting: Setting, models: Any) -> DecodingPolicy:
    if setting.policy == "untrained":
        return untrained_network(models, setting.num_steps, setting.hidden_size)
    return named_policy(setting.policy, models, setting.num_steps)[1]


def prepared(contestant: Contestant) -> Callable[[], None]:
    """A batch to decode, with its models loaded; for `peak_memory`."""
    decode = loop(contestant)
    return lambda: decode(lambda name, function: function)
