"""Tables of conditions made of prompts."""

from collections.abc import Sequence
from pathlib import Path

import torch

from nat_env.frozen.conditions import Conditions
from nat_env.text.embeddings import embedded, embedded_on_disk
from nat_env.text.encoder import TextEncoder, check_prompts

MOST_COPIED = 2**32
"""Bytes of a table that rows are added to, at most: the new one is in memory as a whole."""


def missing_prompts(conditions: Conditions, prompts: Sequence[str]) -> list[str]:
    """The prompts that the table does not have, each once.

    Raises:
        ValueError: no prompts, or an empty one.
    """
    check_prompts(prompts)
    return [p for p in dict.fromkeys(prompts) if p not in conditions.by_name]


def prompted_table(
    conditions: Conditions,
    prompts: Sequence[str],
    encoder: TextEncoder | None,
    replace: bool = False,
    cache: Path | None = None,
) -> Conditions:
    """A table with these prompts behind the rows of another, or in place of them.

    Args:
        conditions: the other table; its row of no prompt is that of this one.
        prompts: those that it has already are not added again.
        encoder: needed where it lacks one of them.
        replace: the new table has `prompts` alone, each once, in their order.
        cache: where the embeddings are kept, see `embedded_on_disk`; allowed with `replace`.

    Raises:
        ValueError: a table of classes; see `missing_prompts` and `embedded`.
    """
    if not conditions.are_prompts:
        raise ValueError(
            f"prompts: got {prompts[0]!r} for conditions that are classes, allowed are prompts for "
            "a transformer that attends to texts"
        )
    missing = missing_prompts(conditions, prompts)
    if cache is not None and not replace:
        raise ValueError("cache: allowed with replace: rows are added in memory")
    names = tuple(dict.fromkeys(prompts)) if replace else (*conditions.names, *missing)
    if not missing:
        chosen = [conditions.by_name[name] for name in names]
        return Conditions(names, **conditions.rows([*chosen, conditions.null]))
    if encoder is None:
        raise ValueError(f"prompts: got {missing[0]!r} without a text encoder")
    null = {name: row[0] for name, row in conditions.rows([conditions.null]).items()}
    if replace and cache is not None:
        return Conditions(names, **embedded_on_disk(encoder, names, null, cache))
    if replace:
        return Conditions(names, **embedded(encoder, names, null))
    tables = (conditions.context, conditions.pooled)
    size = sum(table.nbytes for table in tables if table is not None)
    if size > MOST_COPIED:
        raise ValueError(
            f"prompts: got {len(missing)} for a table of {size:,} bytes, which adding to would "
            f"copy into memory, allowed is up to {MOST_COPIED:,}; take a table of these prompts "
            "alone (replace=True), or the bundle before it was given that table"
        )
    own = conditions.rows(range(len(conditions)))
    new = embedded(encoder, missing, null)
    return Conditions(names, **{name: torch.cat([own[name], new[name]]) for name in new})
