"""AdaNAT's tables 1 to 5 and AutoNAT's 3 to 6, as far as the papers measured them.

Rows that a paper takes from others' models (diffusion, autoregressive, MaskGIT) are left out: their
numbers are not measured by it either. Bundles: `in256-s` and so on are trained with AutoNAT's
beta(12, 3), `-arccos` with the usual distribution.
"""

from eval.papers.rows import PaperRow, PaperTable


def _adanat(
    label: str, bundle: str, num_steps: int, fid: float, inception_score: float | None = None
) -> PaperRow:
    policy = f"adanat-{bundle}-t{num_steps}"
    return PaperRow(label, bundle, num_steps, fid, policy, inception_score)


def _autonat(
    label: str, bundle: str, num_steps: int, fid: float, inception_score: float | None = None,
    searched_on: str = "", kind: str = "", how: str = "",
) -> PaperRow:  # fmt: skip
    policy = f"autonat-{searched_on or bundle}-t{num_steps}{kind}.json"
    return PaperRow(label, bundle, num_steps, fid, policy, inception_score, how)


_UNGUIDED = "--finite-differences.learning-rates 0.001 0.1 0.1 0, from a schedule with w = 0"
_WITHOUT = "--finite-differences.learning-rates"
_BASELINE = PaperRow("baseline", "in256-s-arccos", 4, 8.40)
_OPTIMISED = _autonat("AutoNAT-S", "in256-s", 4, 4.30)

TABLES: dict[str, PaperTable] = {
    "adanat-1": PaperTable(
        "AdaNAT, Table 1: ImageNet 256 x 256",
        (
            _adanat("AdaNAT-S", "in256-s", 4, 4.54),
            _adanat("AdaNAT-S", "in256-s", 8, 3.71, 224.5),
            _adanat("AdaNAT-L", "in256-l", 4, 3.63),
            _adanat("AdaNAT-L", "in256-l", 8, 2.86, 265.4),
        ),
    ),
    "adanat-2": PaperTable(
        "AdaNAT, Table 2: ImageNet 512 x 512", (_adanat("AdaNAT-L", "in512-l", 8, 3.66, 297.3),)
    ),
    "adanat-3": PaperTable("AdaNAT, Table 3: MS-COCO", (_adanat("AdaNAT-S", "coco-s", 8, 5.75),)),
    "adanat-4": PaperTable(
        "AdaNAT, Table 4: CC3M",
        (
            PaperRow("Muse", "cc3m-muse", 8, 7.67),
            PaperRow("Muse", "cc3m-muse", 16, 7.01),
            _adanat("AdaNAT-Muse", "cc3m-muse", 8, 6.83),
        ),
    ),
    "adanat-5": PaperTable(
        "AdaNAT, Table 5: what learning and adapting are worth, T = 4",
        (
            PaperRow("neither", "in256-s", 4, 7.65),
            PaperRow(
                "learnable", "in256-s", 4, 5.40, "adanat-in256-s-t4-not-adaptive",
                how="--no-adaptive",
            ),
            _adanat("learnable and adaptive", "in256-s", 4, 4.54),
        ),
    ),
    "autonat-3": PaperTable(
        "AutoNAT, Table 3: ImageNet 256 x 256 and 512 x 512",
        tuple(
            row
            for size, numbers in (
                ("in256", ((4.45, 193.3), (4.30, 249.7), (3.52, 253.4), (3.26, 271.3),
                           (2.68, 278.8))),
                ("in512", ((6.36, 185.0), (6.59, 252.9), (5.06, 254.5), (5.37, 278.7),
                           (3.74, 286.2))),
            )
            for row in (
                _autonat("AutoNAT-L, no guidance", f"{size}-l", 12, *numbers[0], kind="-unguided",
                         how=_UNGUIDED),
                _autonat("AutoNAT-S", f"{size}-s", 4, *numbers[1]),
                _autonat("AutoNAT-S", f"{size}-s", 8, *numbers[2]),
                _autonat("AutoNAT-L", f"{size}-l", 4, *numbers[3]),
                _autonat("AutoNAT-L", f"{size}-l", 8, *numbers[4]),
            )
        ),
    ),
    "autonat-4": PaperTable(
        "AutoNAT, Table 4: MS-COCO", (_autonat("AutoNAT-S", "coco-s", 8, 5.36),)
    ),
    "autonat-5": PaperTable(
        "AutoNAT, Table 5: CC3M",
        (
            PaperRow("Muse", "cc3m-muse", 8, 7.67),
            PaperRow("Muse", "cc3m-muse", 16, 7.01),
            _autonat("AutoNAT-Muse", "cc3m-muse", 8, 6.90),
        ),
    ),
    "autonat-6a": PaperTable(
        "AutoNAT, Table 6a: what training and generation strategy are worth, T = 4",
        (
            _autonat("both", "in256-s", 4, 4.30),
            _autonat("generation alone", "in256-s-arccos", 4, 5.21),
            PaperRow("training alone", "in256-s", 4, 7.88),
            PaperRow("neither", "in256-s-arccos", 4, 8.40),
        ),
    ),
    "autonat-6b": PaperTable(
        "AutoNAT, Table 6b: turns of the optimisation, T = 4",
        (
            _BASELINE,
            _autonat("1 turn", "in256-s-turn1", 4, 4.61),
            _autonat("2 turns", "in256-s-turn2", 4, 4.35),
            _autonat("3 turns", "in256-s", 4, 4.30),
        ),
    ),
    "autonat-6c": PaperTable(
        "AutoNAT, Table 6c: by turns or at once, T = 4",
        (
            _autonat("by turns, 1.9 days", "in256-s", 4, 4.30),
            _autonat("at once, 2.0 days", "in256-s-concurrent", 4, 8.01),
            _autonat("at once, 4.0 days", "in256-s-concurrent-long", 4, 7.22),
        ),
    ),
    "autonat-6d": PaperTable(
        "AutoNAT, Table 6d: a smaller model's strategy on larger ones",
        tuple(
            row
            for bundle, label, numbers in (
                ("in256-b", "base", ((6.56, 5.11), (3.83, 2.89), (3.87, 3.03))),
                ("in256-l", "large", ((5.42, 4.67), (3.26, 2.68), (3.36, 2.82))),
            )
            for place, num_steps in enumerate((4, 8))
            for row in (
                PaperRow(f"{label}, baseline", bundle, num_steps, numbers[0][place]),
                _autonat(f"{label}, optimised", bundle, num_steps, numbers[1][place]),
                _autonat(f"{label}, transfer", bundle, num_steps, numbers[2][place],
                         searched_on="in256-s"),
            )
        ),
    ),
    "autonat-6e": PaperTable(
        "AutoNAT, Table 6e: one quantity left as the heuristic has it, T = 4",
        (
            _OPTIMISED,
            _autonat("without m", "in256-s", 4, 4.58, kind="-without-m",
                     how=f"{_WITHOUT} 0 0.1 0.1 0.1"),
            _autonat("without tau_1", "in256-s", 4, 6.57, kind="-without-tau1",
                     how=f"{_WITHOUT} 0.001 0 0.1 0.1"),
            _autonat("without tau_2", "in256-s", 4, 5.68, kind="-without-tau2",
                     how=f"{_WITHOUT} 0.001 0.1 0 0.1"),
            _autonat("without w", "in256-s", 4, 5.43, kind="-without-w",
                     how=f"{_WITHOUT} 0.001 0.1 0.1 0"),
        ),
    ),
}  # fmt: skip
"""By the names that nat-study paper takes."""
