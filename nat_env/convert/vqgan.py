"""The tokenizer of a converted bundle: MaskGIT's VQGAN from its file, or another bundle's."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nat_env.bundles.format import CONDITIONS, DESCRIPTION, read_description
from nat_env.bundles.loading import bundle_folder, shipped_bundles
from nat_env.convert.checkpoint_file import read_state_dict
from nat_env.convert.tensor_names import check_tensors
from nat_env.frozen.conditions import Conditions
from nat_env.frozen.protocol import Tokenizer
from nat_env.models.kinds import load_part
from nat_env.models.maskgit_vqgan import MaskGITVQGAN, MaskGITVQGANConfig

_CODES = "quantize.embedding.weight"


def read_tokenizer(file_or_bundle: str, grid: tuple[int, int]) -> Tokenizer:
    """A tokenizer for images of so many tokens.

    Args:
        file_or_bundle: a file of the VQGAN that MaskGIT, MAGE and MUSE share; or a bundle's folder
            or name, whose tokenizer is taken as it is.
        grid: tokens along height and width. A VQGAN works at any size.

    Raises:
        ValueError: no such file or bundle, or the file holds something else.
    """
    path = Path(file_or_bundle)
    if (path / DESCRIPTION).is_file() or file_or_bundle in shipped_bundles():
        folder = bundle_folder(file_or_bundle)
        description = read_description(folder)
        conditions = Conditions.load(description["conditions"], folder / CONDITIONS)
        return load_part(folder, "tokenizer", description["tokenizer"], conditions)
    if path.is_dir():
        raise ValueError(
            f"tokenizer: got {file_or_bundle!r}, allowed is a bundle (a folder with a "
            f"{DESCRIPTION}), or the file of a VQGAN"
        )
    tensors = read_state_dict(path, "tokenizer")
    config = _config(tensors, path, grid)
    with torch.device("meta"):
        vqgan = MaskGITVQGAN(config)
    expected = {name: tuple(t.shape) for name, t in vqgan.state_dict().items()}
    check_tensors(tensors, expected, path, "tokenizer", "MaskGIT's VQGAN")
    vqgan.load_state_dict({name: t.float() for name, t in tensors.items()}, assign=True)
    return vqgan.eval().requires_grad_(False)


def _config(tensors: Mapping[str, Tensor], path: Path, grid: tuple[int, int]) -> MaskGITVQGANConfig:
    """Sizes, from the shapes; what does not fit them is told by name later."""
    levels = {int(n[1]) for name in tensors if (n := re.match(r"encoder\.down\.(\d+)\.", name))}
    blocks = {
        int(n[1]) for name in tensors if (n := re.match(r"encoder\.down\.0\.block\.(\d+)\.", name))
    }
    try:
        if not levels or not blocks:
            raise KeyError("encoder.down.0.block.0")
        width, channels = tensors["encoder.conv_in.weight"].shape[:2]
        codebook_size, latent_channels = tensors[_CODES].shape
        ends = [tensors[f"encoder.down.{n}.block.0.conv1.weight"] for n in sorted(levels)]
        values: dict[str, Any] = {
            "channels": channels,
            "codebook_size": codebook_size,
            "latent_channels": latent_channels,
            "width": width,
            "multipliers": tuple(len(end) // width for end in ends),
            "blocks": max(blocks) + 1,
        }
        factor = 2 ** (len(levels) - 1)
        return MaskGITVQGANConfig((grid[0] * factor, grid[1] * factor), **values)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"tokenizer: {str(path)!r} holds no VQGAN of MaskGIT's layout ({error}); allowed are "
            "files with encoder.*, decoder.* and quantize.embedding.weight, and bundles"
        ) from error
