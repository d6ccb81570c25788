"""What all commands that decode have in common: how they compute, not what."""

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from annotated_types import Ge

from nat_env.commands.bounds import check_bounds


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Where it computes."""

    device: str = "cpu"
    """A torch device."""
    threads: Annotated[int, Ge(1)] | None = None
    """Of torch and NumPy. By default OMP_NUM_THREADS, or as many as there are cores, 4 at most."""
    tf32: bool = False
    """Multiply float32 in TF32 where an accelerator has it: faster, to 3 digits instead of 7. Of
    policies, discriminators, tokenizers and what is pretrained; judges never do."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: one is out of its bounds.
        """
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class ModelOptions(DeviceOptions):
    """How the frozen models compute."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the transformer; auto: bfloat16 where the hardware multiplies it fast."""
    decoder_dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the tokenizer's decoder."""
    compiled: bool = False
    """Compile the transformer by torch.compile: worth it where many images are decoded."""
    rows_per_pass: Annotated[int, Ge(1)] | None = None
    """Canvases in one pass of the transformer; by default 128 on a CPU, and on an accelerator what
    a quarter of its free memory takes."""

    def models(self) -> dict[str, Any]:
        """The arguments of `load_bundle` that say how models compute."""
        names = ("dtype", "device", "decoder_dtype", "compiled", "rows_per_pass")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class Computation(ModelOptions):
    """How it computes."""

    batch_size: Annotated[int, Ge(1)] | None = None
    """Samples decoded at once; by default 128 on a CPU, and on an accelerator what its memory
    takes."""

    def computation(self) -> dict[str, Any]:
        """These options alone, for another command that this one calls."""
        return {field.name: getattr(self, field.name) for field in fields(Computation)}

    def training(self) -> dict[str, Any]:
        """Those of them that a training has: it decodes a round at once."""
        return {field.name: getattr(self, field.name) for field in fields(ModelOptions)}
