"""Rewards by name, for configurations that hold plain JSON values only."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

from nat_env.bundles.bundle import Bundle
from nat_env.commands.own_code import imported, is_own, raised
from nat_env.rewards.clip import ClipScore
from nat_env.rewards.composition import Clipped, RunningNormalized, WeightedSum
from nat_env.rewards.frechet import FrechetReward
from nat_env.rewards.pretrained import JudgeLogLikelihood
from nat_env.rewards.prompted import PromptReward, check_text
from nat_env.rewards.protocol import Reward

RewardChoice = str | Mapping[str, Any] | Reward
"""A name, `module:name` for one's own; a name with options, such as `{"name": "frechet",
"capacity": 512}`, which may be choices themselves: `{"name": "clipped", "reward": "judge", "low":
-2.0}`; or a function."""


def named_reward(name: str, bundle: Bundle, /, **options: Any) -> Reward:
    """Make a reward.

    Args:
        name: `judge`, the judge's log-likelihood of the label; `frechet`, see `FrechetReward`, with
            the option `capacity`; `clip`, see `ClipScore`, with `path_or_id`, `prompt` (a template;
            by default "a photo of a {}" for classes and "{}" for prompts) and `scale`; `prompt`,
            see `PromptReward`, with `score`, a function of images and prompts as `module:name`, and
            `text`, a template. Made of other rewards: `sum`, with `terms`, a list of
            [weight, reward]; `clipped`, with `reward`, `low` and `high`; `normalized`, with
            `reward`, its running normalisation. One's own: `module:name`, a function or an object
            that can be called, or a class or a function that makes one of the options (a class
            also of none); the working directory is looked through last. `state_dict` and
            `load_state_dict` are for those that learn or remember.
        bundle: gives judge, statistics and class names.
        **options: of that reward.

    Raises:
        ValueError: another name, options that do not fit it, or a module that is not there or
            fails; the message says which, and where.

    Example:
        >>> from nat_env.bundles.loading import load_bundle
        >>> named_reward("frechet", load_bundle("digits"), capacity=512).capacity
        512
        >>> terms = [[1.0, "judge"], [0.5, {"name": "clipped", "reward": "judge", "low": -2.0}]]
        >>> reward = named_reward("sum", load_bundle("digits"), terms=terms)
        >>> [weight for weight, _ in reward.terms], reward.terms[1][1].low
        ([1.0, 0.5], -2.0)
    """
    allowed = ", ".join(map(repr, _MAKERS))
    if name == "adversarial":
        raise ValueError(
            f"reward name: got 'adversarial', which learns beside the policy and is a wrapper, "
            f"nat_env.AdversarialReward(env); allowed are {allowed}"
        )
    if isinstance(name, str) and is_own(name):
        return _imported(name, options)
    if not isinstance(name, str) or name not in _MAKERS:
        raise ValueError(f"reward name: got {name!r}, allowed are {allowed}")
    maker = _MAKERS[name]
    _check_options(maker, (bundle,), options, name)
    return maker(bundle, **options)


def chosen_reward(choice: RewardChoice, bundle: Bundle) -> Reward:
    """The reward that an environment's `reward_fn` stands for, or a part of it.

    Raises:
        ValueError: neither a name, nor a mapping with one, nor a function.
    """
    if isinstance(choice, str):
        return named_reward(choice, bundle)
    if isinstance(choice, Mapping) and "name" in choice:
        options = dict(choice)
        return named_reward(options.pop("name"), bundle, **options)
    names = f"{', '.join(map(repr, _MAKERS))}, 'module:name', dicts of 'name' and options, and "
    return _checked(choice, f"reward_fn: got {choice!r}", names)


def _imported(name: str, options: Mapping[str, Any]) -> Reward:
    """What `module:name` stands for, or makes with the options."""
    found = imported(name, "reward name")
    if isinstance(found, type) or (options and inspect.isroutine(found)):
        _check_options(found, (), options, name)
        try:
            found = found(**options)
        except Exception as error:
            raise ValueError(f"reward name: got {name!r}, which fails {raised(error)}") from error
    elif options:
        raise ValueError(
            f"reward options: got {dict(options)} for {name!r}, allowed are none: it is no class"
        )
    return _checked(found, f"reward name: got {name!r}, which gives {found!r}")


def _check_options(maker: Any, given: Sequence[Any], options: Mapping[str, Any], name: str) -> None:
    """Check that `maker` can be called with what is given and the options."""
    mismatch = _mismatch(maker, *given, **options)
    if mismatch:
        names = ", ".join(list(inspect.signature(maker).parameters)[len(given) :]) or "none"
        raise ValueError(
            f"reward options: got {dict(options)} for {name!r} ({mismatch}); allowed are: {names}"
        )


def _checked(reward: Any, given: str, names: str = "") -> Reward:
    """`reward`, if it can be called as one: it would fail only when the first episode ends."""
    mismatch = "a class" if isinstance(reward, type) else _mismatch(reward, "images", "conditions")
    if mismatch:
        raise ValueError(
            f"{given} ({mismatch}), allowed are {names}functions of images and conditions"
        )
    return reward


def _mismatch(called: Any, /, *given: Any, **options: Any) -> str | None:
    """Why `called` cannot be called so; None if it can, or if it does not say, as builtins do."""
    try:
        inspect.signature(called).bind(*given, **options)
    except TypeError as error:
        return str(error)
    except ValueError:
        pass
    return None


def _judge(bundle: Bundle) -> Reward:
    return JudgeLogLikelihood(bundle.require("yardstick").judge)


def _clip(
    bundle: Bundle, path_or_id: str, prompt: str | None = None, scale: float = 100.0
) -> Reward:
    conditions = bundle.conditions
    text = ("{}" if conditions.are_prompts else "a photo of a {}") if prompt is None else prompt
    check_text(text, "prompt")
    return ClipScore(path_or_id, conditions.names, bundle.device, scale, text=text)


def _prompt(bundle: Bundle, score: str, text: str = "{}") -> Reward:
    if not isinstance(score, str) or not is_own(score):
        raise ValueError(
            f"score: got {score!r}, allowed is module:name, a function of images and prompts"
        )
    return PromptReward(imported(score, "score"), bundle.conditions.names, text)


def _sum(bundle: Bundle, terms: Sequence[tuple[float, RewardChoice]]) -> Reward:
    if not isinstance(terms, Sequence) or not all(map(_is_term, terms)):
        raise ValueError(f"terms: got {terms!r}, allowed is a list of [weight, reward]")
    return WeightedSum([(weight, chosen_reward(part, bundle)) for weight, part in terms])


def _is_term(term: Any) -> bool:
    return isinstance(term, (list, tuple)) and len(term) == 2 and isinstance(term[0], Real)


def _clipped(
    bundle: Bundle, reward: RewardChoice, low: float = -math.inf, high: float = math.inf
) -> Reward:
    if not isinstance(low, Real) or not isinstance(high, Real):
        raise ValueError(f"low, high: got {low!r} and {high!r}, allowed are numbers")
    return Clipped(chosen_reward(reward, bundle), low, high)


def _normalized(bundle: Bundle, reward: RewardChoice) -> Reward:
    return RunningNormalized(chosen_reward(reward, bundle))


_MAKERS: dict[str, Callable[..., Reward]] = {
    "judge": _judge,
    "frechet": FrechetReward.of_bundle,
    "clip": _clip,
    "prompt": _prompt,
    "sum": _sum,
    "clipped": _clipped,
    "normalized": _normalized,
}
