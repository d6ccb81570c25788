"""The layouts in which the authors of AutoNAT, AdaNAT and MUSE-Pytorch store their U-ViTs."""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from nat_env.convert.tensor_names import check_tensors
from nat_env.models.uvit import UVIT_SIZES, UViT, UViTConfig

LAYOUTS = {
    "autonat": "the class-conditional U-ViT of AutoNAT, AdaNAT and AdaGen",
    "muse": "MUSE-Pytorch's ImageNet U-ViT, whose codes, mask and classes are one vocabulary",
    "cc3m": "MUSE-Pytorch's text-to-image U-ViT, which AdaNAT uses too",
}
_PUBLISHED_HEADS = {
    (layout, UVIT_SIZES[size].hidden_size, UVIT_SIZES[size].depth): UVIT_SIZES[size].num_heads
    for layout, size in (
        ("autonat", "S"), ("autonat", "L"), ("muse", "B"), ("cc3m", "Muse-CC3M"),
    )
}  # fmt: skip
"""By layout, width and number of blocks."""
_WORDS, _POSITIONS = (f"token_emb.{part}_embeddings.weight" for part in ("word", "position"))
_TOKEN_NORM, _CLASS_NORM = "token_emb.LayerNorm", "context_embed.LayerNorm"
_CLASSES, _CLASS_POSITION = (
    f"context_embed.{part}_embeddings.weight" for part in ("word", "position")
)
_BIAS = "mlm_layer.bias"
_AS_THEY_ARE = (  # ours and theirs, where no arithmetic is needed
    (r"\.(qkv|proj)\.", r".attn.\1."),
    (r"\.(fc1|fc2)\.", r".mlp.\1."),
    (r"^token_norm\.", r"token_emb.LayerNorm."),
    (r"^patch_embed\.", r"patch_embed.proj."),
    (r"^head\.0\.", r"mlm_layer.fc."),
    (r"^head\.2\.", r"mlm_layer.ln."),
)
_BY_ARITHMETIC = (
    "token_embedding.weight", "position_embedding", "head_bias",
    "class_embedding.weight", "class_norm.weight", "class_norm.bias",
)  # fmt: skip


def layout_of(tensors: Mapping[str, Tensor]) -> str:
    """The layout that a file's names are those of, whether or not they are all there."""
    if "context_embed.weight" in tensors:
        return "cc3m"
    return "autonat" if any(name.startswith("context_embed.") for name in tensors) else "muse"


def grid_of(tensors: Mapping[str, Tensor], layout: str, path: Path) -> tuple[int, int]:
    """Tokens along height and width: a square.

    Raises:
        ValueError: the file holds no U-ViT, or another number of positions.
    """
    for name in (_WORDS, _POSITIONS, "mid_block.attn.qkv.weight"):
        if name not in tensors or tensors[name].ndim != 2:
            raise ValueError(
                f"file: {str(path)!r} holds no U-ViT of the authors': {name} is missing; allowed "
                f"are {'; '.join(LAYOUTS.values())}"
            )
    num_tokens = len(tensors[_POSITIONS]) - (layout == "muse")  # one is the class's there
    side = math.isqrt(max(num_tokens, 0))
    if side**2 != num_tokens or not side:
        raise ValueError(
            f"file: {str(path)!r} has {num_tokens} positions of tokens, allowed is a square; is the"
            f" layout {layout!r} its own?"
        )
    return side, side


def config_of(
    tensors: Mapping[str, Tensor],
    layout: str,
    grid: tuple[int, int],
    codebook_size: int,
    context_length: int,
    num_heads: int | None,
) -> UViTConfig:
    """Sizes, from the shapes; what does not fit them is told by name later.

    Args:
        tensors: of the file.
        layout: of `LAYOUTS`.
        grid: of the tokens.
        codebook_size: K, of the tokenizer.
        context_length: L, of the table of prompts; 0 for classes.
        num_heads: which no tensor tells; None for the published number.

    Raises:
        ValueError: a size that is not published and no number of heads; or sizes that do not fit.
    """
    vocabulary, size = tensors[_WORDS].shape
    indices = [
        int(n[1]) for name in tensors if (n := re.match(r"(?:in|out)_blocks\.(\d+)\.", name))
    ]
    depth = 2 * (max(indices, default=-1) + 1) + 1
    heads = num_heads or _PUBLISHED_HEADS.get((layout, size, depth))
    if heads is None:
        known = ", ".join(f"{d} blocks {s} wide ({name})" for name, s, d in _PUBLISHED_HEADS)
        raise ValueError(
            f"num_heads: got none for {depth} blocks {size} wide in the layout {layout!r}, whose "
            f"number of heads no tensor tells; known are {known}"
        )
    num_classes = 0
    if layout == "muse":
        num_classes = vocabulary - codebook_size - 2  # one word is the mask, one no class
        if num_classes < 1:
            raise ValueError(
                f"file: has {vocabulary} words, which the {codebook_size} codes of the tokenizer "
                "and a mask leave no classes of; give its own tokenizer and layout"
            )
    elif layout == "autonat":
        num_classes = max(1, _length(tensors, _CLASSES, 0) - 1)
    return UViTConfig(
        codebook_size,
        grid,
        num_classes,
        hidden_size=size,
        depth=depth,
        num_heads=heads,
        patch_size=_length(tensors, "patch_embed.proj.weight", 3),
        context_length=context_length,
        context_size=_length(tensors, "context_embed.weight", 1) if layout == "cc3m" else 0,
    )


def uvit_from(tensors: Mapping[str, Tensor], layout: str, config: UViTConfig, path: Path) -> UViT:
    """The U-ViT of a file.

    Raises:
        ValueError: tensors are missing, unknown, of another shape or not finite, by name.
    """
    kept = {name: t for name, t in tensors.items() if "position_ids" not in name}
    with torch.device("meta"):
        uvit = UViT(config)
    same = {name: _theirs(name) for name in uvit.state_dict() if name not in _BY_ARITHMETIC}
    shapes = {theirs: tuple(uvit.state_dict()[ours].shape) for ours, theirs in same.items()}
    network = f"{LAYOUTS[layout]}, of {config.depth} blocks {config.hidden_size} wide"
    check_tensors(kept, shapes | _embeddings(layout, config), path, "file", network)
    own = {ours: kept[theirs] for ours, theirs in same.items()} | _by_arithmetic(
        kept, layout, config
    )
    uvit.load_state_dict({name: t.float().contiguous() for name, t in own.items()}, assign=True)
    return uvit


def _length(tensors: Mapping[str, Tensor], name: str, axis: int) -> int:
    """Of a tensor along an axis; 1 where it is not there, or has too few."""
    shape = tensors[name].shape if name in tensors else ()
    return shape[axis] if axis < len(shape) else 1


def _theirs(name: str) -> str:
    for pattern, replacement in _AS_THEY_ARE:
        name = re.sub(pattern, replacement, name)
    return name


def _embeddings(layout: str, config: UViTConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of what is not as ours is: by name."""
    size, classes = config.hidden_size, config.num_classes + 1
    words, places = config.codebook_size + 1, config.num_tokens
    if layout == "muse":
        words, places = words + classes, places + 1
    shapes: dict[str, tuple[int, ...]] = {
        _WORDS: (words, size), _POSITIONS: (places, size), _BIAS: (1, 1, words)
    }  # fmt: skip
    if layout == "autonat":
        shapes |= {_CLASSES: (classes, size), _CLASS_POSITION: (1, size)}
        shapes |= {f"{_CLASS_NORM}.{part}": (size,) for part in ("weight", "bias")}
    return shapes


def _by_arithmetic(
    tensors: Mapping[str, Tensor], layout: str, config: UViTConfig
) -> dict[str, Tensor]:
    """Our embeddings, from theirs.

    The class has a position of its own, always the same one: it is added to every class. In one
    vocabulary the classes come after codes and mask, and share the tokens' norm. Logits of what is
    no code are cut off, and so is their bias.
    """
    codes = config.codebook_size
    words, positions = tensors[_WORDS].float(), tensors[_POSITIONS].float()
    bias = tensors[_BIAS].flatten()[:codes]
    if layout == "cc3m":
        parts = (words, positions)
        return dict(zip(_BY_ARITHMETIC, (*parts, bias), strict=False))
    if layout == "autonat":
        classes = tensors[_CLASSES].float() + tensors[_CLASS_POSITION].float()
        norm = _CLASS_NORM
    else:
        classes, norm = words[codes + 1 :] + positions[0], _TOKEN_NORM
        words, positions = words[: codes + 1], positions[1:]
    own = (words, positions, bias, classes, tensors[f"{norm}.weight"], tensors[f"{norm}.bias"])
    return dict(zip(_BY_ARITHMETIC, own, strict=True))
