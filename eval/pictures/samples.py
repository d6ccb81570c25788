"""Pictures of policies and their samples, for someone who sees them for the first time."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from agents.reports.figure import (
    heading,
    label_width,
    new_figure,
    pixel_axes,
    save,
    shortened,
    write,
)
from nat_env.bundles.bundle import Bundle
from nat_env.frozen.conditions import balanced_conditions
from nat_env.generation import StepRecord, generate
from nat_env.policies import DecodingPolicy
from nat_env.render import canvas, image_grid, thumbnail_scale
from nat_env.seeds import NAT_EVAL
from nat_env.text.prompts import short

LABEL = 40
"""Letters of a class or prompt beside its row."""


def save_sample_grids(
    path: Path,
    bundle: Bundle,
    policies: Mapping[str, DecodingPolicy],
    num_steps: int,
    seed: int,
    captions: Mapping[str, str] | None = None,
    per_class: int = 8,
    max_classes: int = 10,
) -> None:
    """Grids of samples side by side: a row per class, the same random numbers in each grid.

    They are the first samples of `measure` with this seed, not chosen.

    Args:
        path: a PNG.
        bundle: the frozen models.
        policies: by name, from left to right.
        num_steps: T.
        seed: of the evaluation.
        captions: a second line under a policy's name.
        per_class: columns of a grid.
        max_classes: rows at most.
    """
    shown = min(len(bundle.conditions), max_classes)
    first, stride = NAT_EVAL.seed_of(seed), len(bundle.conditions)
    # Classes come in turn, of those shown as of all: down the columns of a table of a row each.
    order = torch.arange(per_class * shown).view(per_class, -1).T.flatten()
    scale = thumbnail_scale(bundle.tokenizer.image_size[1])
    sheets = []
    for policy in policies.values():
        rounds = [  # the first classes alone, with the numbers that they have among all
            generate(bundle, policy, range(shown), num_steps, first + n * stride)
            for n in range(per_class)
        ]
        kept = torch.cat(rounds)
        sheets.append(np.asarray(image_grid(kept[order], per_class, scale, gap=3)))

    height, width, _ = sheets[0].shape
    beside = [short(name, LABEL) for name in bundle.conditions.names[:shown]]
    left = label_width(beside)
    top, gap, bottom = 104, 28, 12
    total = (left + len(sheets) * (width + gap), top + height + bottom)
    figure = new_figure(*total)
    heading(
        figure,
        f"{bundle.name}: samples after T = {num_steps} decoding steps",
        "Same class and same random numbers at the same place of each grid; not chosen by hand.",
        left,
    )
    for index, (name, sheet) in enumerate(zip(policies, sheets, strict=True)):
        x = left + index * (width + gap)
        axes = pixel_axes(figure, x, top, width, height)
        axes.imshow(sheet, interpolation="nearest")
        caption = (captions or {}).get(name, "")
        write(figure, x, top - 24, shortened(name, width // 9), size=11, weight="bold")
        write(figure, x, top - 8, caption, size=10)
    for row, label in enumerate(beside):
        y = top + round((row + 0.5) * height / shown)
        write(figure, left - 8, y, label, size=10, ha="right", va="center")
    save(figure, path)


def save_steps(
    path: Path,
    bundle: Bundle,
    name: str,
    policy: DecodingPolicy,
    num_steps: int,
    seed: int,
    rows: int = 5,
    candidates: int = 128,
) -> None:
    """A few samples after each step, with what is masked, and the m that a policy chose for it.

    After AdaNAT's Figure 3. The samples are those with the least and the most re-masking among the
    first of `measure` with this seed, and some evenly between.

    Args:
        path: a PNG.
        bundle: the frozen models.
        name: of the policy, for the title.
        policy: (features, timestep) -> m, tau_1, tau_2, w.
        num_steps: T; at most 8 of the steps are shown.
        seed: of the evaluation.
        rows: samples shown.
        candidates: samples they are taken from.
    """
    records: list[StepRecord] = []
    labels = balanced_conditions(candidates, len(bundle.conditions))
    generate(bundle, policy, labels, num_steps, NAT_EVAL.seed_of(seed), candidates, records.append)
    mask_id, by_ratio = bundle.nat.mask_id, getattr(policy, "sampler", None) is None
    ratios = torch.stack([r.actions[:, 0] for r in records], dim=1).cpu()  # [B, T]
    masked = torch.stack([(r.ids == mask_id).sum(dim=1) for r in records], dim=1).cpu()  # [B, T]
    chosen = _spread(ratios[:, :-1].nansum(dim=1) if by_ratio else masked.sum(dim=1), rows)
    steps = np.unique(np.linspace(0, num_steps - 1, min(num_steps, 8)).round().astype(int))
    final = records[-1].ids[chosen]
    scale = max(1, round(130 / bundle.tokenizer.image_size[1]))

    size = bundle.tokenizer.image_size[1] * scale
    beside = [short(bundle.conditions.names[int(labels[index])], LABEL) for index in chosen]
    left = label_width(beside)
    top, gap, below = 130, 14, 36
    width = max(left + len(steps) * (size + gap), 720)
    figure = new_figure(width, top + len(chosen) * (size + below) + 8)
    heading(
        figure,
        f"{bundle.name}: T = {num_steps} decoding steps, one by one",
        f"Policy: {shortened(name, 70)}.\n"
        + ("m: share of the tokens that the policy leaves" if by_ratio else "How many stay")
        + " masked (blue) for the next step.\n"
        f"Rows: from the sample with the least re-masking to that with the most, of {candidates}.",
        left,
    )
    for position, step in enumerate(steps):
        ids = records[step].ids[chosen]
        frames = canvas(bundle.tokenizer, ids, final, mask_id, scale)
        counts = masked[chosen, step].tolist()
        x = left + position * (size + gap)
        write(figure, x, top - 8, f"after step {step + 1}", size=10, weight="bold")
        for row, (frame, count) in enumerate(zip(frames, counts, strict=True)):
            y = top + row * (size + below)
            pixel_axes(figure, x, y, size, size).imshow(frame, interpolation="nearest")
            below_frame = f"{count} of {bundle.num_tokens}"
            if by_ratio:
                below_frame = f"m = {ratios[chosen[row], step]:.2f} ({below_frame})"
            if count == 0:
                below_frame = "all revealed"
            write(figure, x, y + size + 15, below_frame, size=9)
    for row, label in enumerate(beside):
        y = top + row * (size + below) + size // 2
        write(figure, left - 8, y, label, size=10, ha="right", va="center")
    save(figure, path)


def _spread(values: Tensor, count: int) -> Tensor:
    """Indices of the smallest, the largest, and values evenly between by rank."""
    ranks = torch.linspace(0, len(values) - 1, count).round().long()
    return values.argsort(stable=True)[ranks]
