"""Judges that nothing here was trained with, by name: light to import."""

from typing import Literal

JudgeName = Literal["efficientnet-lite0", "efficientnet-lite2"]
"""Trained on ImageNet by others. Not `efficientnet-lite1`: trainings of tokenizers look at it."""

JUDGES: tuple[JudgeName, ...] = ("efficientnet-lite0",)
"""Those that are asked where nothing else is said."""

JUDGE_RESOLUTION = 112
"""Pixels that they resize images to: 4 to 5 times faster than at their own 224 and 260."""
