"""The words of the help that a newcomer does not know."""

import re
import shutil
import textwrap

WORDS = {
    "NAT": "non-autoregressive transformer, which fills in many tokens of an image at once",
    "bundle": "a folder of frozen models: transformer, tokenizer and, for distances, a judge and "
    "real images",
    "judge": "a frozen network; a Frechet distance (FD) compares what it says of samples with what "
    "it says of real images, and is lower where these are more alike",
    "policy": "says at every step how many tokens stay masked (m), at which temperatures tokens "
    "(tau_1) and masks (tau_2) are drawn, and how strong the guidance (w) is",
    "schedule": "a policy that is a table, the same for all samples",
    "heuristic": "the papers' hand-made schedule",
    "adaptive": "of a policy that decides for each sample, by its features",
    "features": "what the transformer computes of an image so far: a vector for every token",
    "residual": "learned on top of a schedule, as a correction of it",
}


def described(text: str, words_in: str) -> str:
    """A command's description for the terminal, with the words of `WORDS` that its help has.

    Args:
        text: paragraphs, each one line.
        words_in: all of the help.
    """
    width = shutil.get_terminal_size().columns
    parts = [_filled(part, width) for part in text.split("\n\n") if part]
    found = [word for word in WORDS if re.search(_pattern(word), words_in)]
    if found:
        lines = (_filled(f"{word}: {WORDS[word]}.", width, hanging=True) for word in found)
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _filled(text: str, width: int, hanging: bool = False) -> str:
    """In lines as wide as the terminal; indented, or tyro would join them again."""
    return textwrap.fill(
        text, width, initial_indent="  ", subsequent_indent="    " if hanging else "  "
    )


def _pattern(word: str) -> str:
    """One or several of it, in the middle of a sentence or at its beginning."""
    return rf"\b[{word[0].lower()}{word[0].upper()}]{word[1:]}s?\b"
