"""The options of nat-share: light to import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Share:
    """Share the best policy of a run: weights, configuration, a card in words and one in a picture.

    What is written is taken wherever a run folder is: `nat-eval --policies TARGET`,
    `nat-sample --policy TARGET`.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder of nat-train."""
    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A new or empty folder, or hub:user/name, a repository of the Hugging Face hub (log in with
    `hf auth login` first)."""
    license: str = "mit"
    """Of the policy, by the hub's identifiers."""
    private: bool = False
    """A hub repository that only you see, if it is a new one."""
