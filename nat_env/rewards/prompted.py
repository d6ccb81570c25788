"""Rewards of an image and its prompt."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor


class PromptReward:
    """What a model of images and texts says of an image and its prompt: ImageReward, PickScore, ...

    Example:
        >>> import torch
        >>> def light_for_its_letters(images, prompts):
        ...     return images.mean(dim=(1, 2, 3)) / torch.tensor([len(text) for text in prompts])
        >>> reward = PromptReward(light_for_its_letters, ["a cat", "two dogs on a mat"])
        >>> reward(torch.ones(2, 3, 4, 4), torch.tensor([0, 1]))
        tensor([0.2000, 0.0588])
    """

    def __init__(
        self, score: Callable[[Tensor, list[str]], Any], prompts: Sequence[str], text: str = "{}"
    ) -> None:
        """Score by `score`.

        Args:
            score: of images [B, C, H, W] in [0, 1] and their B prompts; gives one number an image,
                the higher the better.
            prompts: of each condition, `bundle.conditions.names`.
            text: with {} for the prompt: what `score` is given.

        Raises:
            ValueError: no function, no prompts, or a text without {}.
        """
        if not callable(score):
            raise ValueError(f"score: got {score!r}, allowed is a function of images and prompts")
        if isinstance(prompts, str) or not prompts:
            raise ValueError(f"prompts: got {prompts!r}, allowed is one for each condition")
        check_text(text, "text")
        self.score = score
        self.text = text
        self.prompts: Sequence[str] = prompts

    def __call__(self, images: Tensor, conditions: Tensor) -> Any:
        """What `score` gives [B]."""
        prompts = [self.prompts[condition] for condition in conditions.tolist()]
        return self.score(images, [self.text.replace("{}", prompt) for prompt in prompts])

    def tell_names(self, names: Sequence[str]) -> None:
        """See `nat_env.rewards.protocol.tell_names`."""
        self.prompts = names


def check_text(text: str, argument: str) -> None:
    """Check that a text has a place for a class or prompt.

    Raises:
        ValueError: it has none.
    """
    if not isinstance(text, str) or "{}" not in text:
        raise ValueError(
            f"{argument}: got {text!r}, allowed is a text with {{}} for the class or prompt"
        )
