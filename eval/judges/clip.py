"""CLIP as a judge of how well an image fits its prompt: the CLIP score."""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256 as hashed
from pathlib import Path

from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.rewards.clip import ClipScore
from nat_env.rewards.prompted import check_text
from nat_env.storage.files import sha256


@dataclass(frozen=True, eq=False)
class Agreement:
    """A named number of each image and its condition, whose mean over samples is reported."""

    name: str
    """Of the judge that gives it."""
    description: str
    """What images are held against."""
    score: Callable[[Tensor, Tensor], Tensor] = field(repr=False)
    """Images [b, C, H, W] in [0, 1] and conditions [b] -> [b]."""


def clip_agreement(bundle: Bundle, path: Path | str, prompt: str = "{}") -> Agreement:
    """The CLIP score of a bundle's samples: the mean cosine of image and prompt.

    Cosines below 0 count as 0 (Hessel et al. 2021); they are not multiplied by anything, as in
    AutoNAT's table of 0.28 to 0.31 with ViT-B/32.

    Args:
        bundle: its conditions' names are the prompts, or the classes in them.
        path: a folder that transformers loads as `CLIPModel` and `CLIPProcessor`.
        prompt: what is said of a condition; `{}` is its name.

    Raises:
        ValueError: a prompt without `{}`, or nothing that loads as CLIP.
        ImportError: transformers is not installed.
    """
    check_text(prompt, "clip_prompt")
    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"clip: got {str(path)!r}, allowed is the folder of a CLIP model")
    names = bundle.conditions.names
    clip = ClipScore(path, names, bundle.device, scale=1.0, text=prompt)
    files = sorted(f for f in path.iterdir() if f.suffix in (".safetensors", ".bin"))
    weights = "".join(map(sha256, files))
    listed = hashed("\n".join(prompt.replace("{}", name) for name in names).encode()).hexdigest()
    about = f"{len(names)} prompts, SHA-256 {listed[:8]}"
    return Agreement(f"clip@{hashed(weights.encode()).hexdigest()[:8]}", about, clip)
