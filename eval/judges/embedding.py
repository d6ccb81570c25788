"""A judge's embeddings of a bundle's images, computed once and kept in files."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from eval.judges.judge import Judge
from nat_env.bundles.bundle import Bundle
from nat_env.frozen.batches import in_batches
from nat_env.models.pixels import to_float
from nat_env.storage.state import load_state, save_state

_AT_ONCE = 4096


def shared_cache() -> Path:
    """Where evaluations keep the embeddings of real images for one another.

    In the user's cache, `$XDG_CACHE_HOME` or ~/.cache: what a judge says of a bundle's images is
    the same for all evaluations. Files are named after the bundle's fingerprint, the judge and the
    images, and may be deleted at any time.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "nat-env"


def embedding_size(bundle: Bundle, judge: Judge) -> int:
    """D, by one forward pass on a few of the bundle's real images.

    Where it has none, on images of tokens that are all alike.

    Raises:
        ValueError: what the judge gives are no embeddings, or its classes no logits.
    """
    if bundle.reals is None:
        codes = torch.arange(4, device=bundle.device) % bundle.tokenizer.codebook_size
        real = bundle.tokenizer.decode(codes[:, None].repeat(1, bundle.num_tokens))
    else:
        real = to_float(bundle.reals.images[:4].to(bundle.device))
    embeddings = judge.embeddings(real)
    if embeddings.ndim != 2 or len(embeddings) != len(real):
        raise ValueError(
            f"judge: {judge.name} gives {tuple(embeddings.shape)} for {len(real)} images, "
            f"allowed is [{len(real)}, D]; mend its network, or leave that judge out"
        )
    _check_finite(judge, "embeddings", embeddings)
    if judge.classifier is not None:
        _check_finite(judge, "class probabilities", judge.probabilities(embeddings))
    return embeddings.shape[1]


def real_embeddings(
    bundle: Bundle,
    judge: Judge,
    images: NDArray[np.int64],
    cache: Path | None = None,
    progress: bool = False,
) -> NDArray[np.float32]:
    """Of some of the bundle's real images [n, D].

    Args:
        bundle: holds real images.
        judge: its own or another one.
        images: numbers [n] of those wanted.
        cache: a folder, where they are read from, or else written to; None for none.
        progress: show a bar.

    Raises:
        ValueError: a file in `cache` is damaged or another judge's, or the judge gives embeddings
            that are not finite.
    """
    reals = bundle.require("reals").images

    def pixels(numbers: Tensor) -> Tensor:
        return to_float(reals[numbers].to(bundle.device))

    return _kept(bundle, judge, images, pixels, "real", cache, progress)


def reconstructed_embeddings(
    bundle: Bundle,
    judge: Judge,
    images: NDArray[np.int64],
    cache: Path | None = None,
    progress: bool = False,
) -> NDArray[np.float32]:
    """Of some of the bundle's real images after the tokenizer [n, D]; as `real_embeddings`."""
    reals, tokenizer = bundle.require("reals"), bundle.tokenizer

    def reconstructed(numbers: Tensor) -> Tensor:
        if reals.ids is not None:
            return tokenizer.decode(reals.ids[numbers].to(bundle.device))
        pixels = to_float(reals.images[numbers].to(bundle.device))
        return tokenizer.decode(tokenizer.encode(pixels))

    return _kept(bundle, judge, images, reconstructed, "reconstructed", cache, progress)


def image_bar(total: int, label: str | None) -> tqdm:
    """A progress bar; none where there is no label or the output is no terminal."""
    return tqdm(total=total, desc=label, unit="image", leave=False, disable=not label or None)


def _kept(
    bundle: Bundle,
    judge: Judge,
    images: NDArray[np.int64],
    images_of: Callable[[Tensor], Tensor],
    what: str,
    cache: Path | None,
    progress: bool,
) -> NDArray[np.float32]:
    path = cache and cache / _file(bundle, judge, images, what)
    if path is not None and path.is_file():
        return _read(bundle, judge, path, len(images)).numpy()
    with image_bar(len(images), f"{judge.name}, {what}" if progress else None) as bar:

        def embedded(numbers: Tensor) -> Tensor:
            embeddings = judge.embeddings(images_of(numbers))
            bar.update(len(numbers))
            return embeddings

        embeddings = in_batches(embedded, torch.from_numpy(images))
    _check_finite(judge, "embeddings", embeddings)
    if path is not None:
        with suppress(OSError):  # a full or read-only disk costs the time again, and no more
            save_state(path, {"embeddings": embeddings})
    return embeddings.numpy()


def _file(bundle: Bundle, judge: Judge, images: NDArray[np.int64], what: str) -> str:
    # Of the images, not of their numbers: of other prompts a bundle has others of its images.
    chosen, reals = hashlib.sha256(), bundle.require("reals").images
    for numbers in torch.from_numpy(images).split(_AT_ONCE):
        chosen.update(reals[numbers].numpy().tobytes())
    if what == "reconstructed" and bundle.decoder_dtype != "float32":
        what = f"{what}-{bundle.decoder_dtype}"
    name = f"{bundle.fingerprint[:16]}_{judge.name}_{what}_{chosen.hexdigest()[:16]}"
    return f"{name}.safetensors"


def _read(bundle: Bundle, judge: Judge, path: Path, count: int) -> Tensor:
    advice = f"cache: embeddings of the judge {judge.name}, in {path}; delete that file"
    try:
        embeddings = load_state(path)["embeddings"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{advice}, which is damaged ({error})") from error
    allowed = (count, embedding_size(bundle, judge))
    if not torch.is_tensor(embeddings) or embeddings.shape != allowed:
        got = tuple(embeddings.shape) if torch.is_tensor(embeddings) else type(embeddings).__name__
        raise ValueError(f"{advice}: got {got}, allowed is {list(allowed)}")
    if not embeddings.isfinite().all():
        raise ValueError(f"{advice}: it holds values that are not finite")
    return embeddings


def _check_finite(judge: Judge, what: str, values: Tensor) -> None:
    bad = int((~values.isfinite()).any(dim=1).sum())
    if bad:
        raise ValueError(
            f"judge: {judge.name} gives {what} that are not finite for {bad} of {len(values)} "
            "images; check its weights, or leave that judge out"
        )
