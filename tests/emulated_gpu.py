"""An accelerator made of the CPU: what a GPU would refuse or wait for shows without one.

Tensors of the device `emulated` refuse to mix with those of the CPU as CUDA's do, and compute what
the CPU computes, to the bit. Every wait of the host for the device and every copy between them is
told with the line of the repository that caused it. It shows no speed, no kernel's own limits and
no other rounding.

`install` adds the device to torch, for the rest of the process: so what needs it runs in a process
of its own, as `tests/on_emulated_gpu/` does.

    from emulated_gpu import install, recorded

    install()
    env = NATDecodeVectorEnv(4, "digits", device="emulated", dtype="float32")
    with recorded() as events:
        env.step(actions)
    events.syncs()  # Counter({"nat_env/vector_env.py:173": 1, ...})
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "emulated"
ROOT = Path(__file__).resolve().parents[1]
OURS = tuple(f"{ROOT / room}/" for room in ("nat_env", "agents", "pretrain", "eval", "tests"))
LEARNERS = ("/stable_baselines3/", "/sb3_contrib/")
"""Libraries whose lines are told, too: they loop over what is ours."""

aten = torch.ops.aten


# ------------------------------------------------------------------ what is recorded


@dataclass
class Events:
    """What happened between host and device while `recorded` was open."""

    waits: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(kind, "file:line") -> times that the host waited for the device."""
    sent: Counter[str] = field(default_factory=Counter)
    """"file:line" -> copies from the host to the device."""
    fetched: Counter[str] = field(default_factory=Counter)
    """"file:line" -> bytes copied from the device to the host."""
    bytes_to_device: int = 0
    """Of all copies from the host to the device."""

    def syncs(self) -> Counter[str]:
        """ "file:line" -> times that the host waited there for the device."""
        found: Counter[str] = Counter()
        for (_, line), times in self.waits.items():
            found[line] += times
        return found

    @property
    def bytes_to_host(self) -> int:
        """Of all copies from the device to the host, single numbers included."""
        return self.fetched.total()

    def __str__(self) -> str:
        rows = [f"{n:6d} waits  {line}  ({kind})" for (kind, line), n in self.waits.most_common()]
        rows += [f"{n:6d} sent   {line}" for line, n in self.sent.most_common()]
        return "\n".join(rows)


_recording: list[Events] = []


@contextmanager
def recorded() -> Iterator[Events]:
    """What happens between host and device inside."""
    events = Events()
    _recording.append(events)
    try:
        yield events
    finally:
        _recording.remove(events)


def _waited(kind: str, fetched: int = 0, waits: bool = True) -> None:
    """The host waited for the device, or fetched bytes of it without waiting."""
    if _recording:
        line = _line()
        for events in _recording:
            events.waits[kind, line] += waits
            events.fetched[line] += fetched


def _sent(size: int) -> None:
    if _recording:
        line = _line()
        for events in _recording:
            events.sent[line] += 1
            events.bytes_to_device += size


def _line() -> str:
    """The innermost line of the repository or of a library of learners that is being run."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(OURS) and file != __file__:
            return f"{Path(file).relative_to(ROOT)}:{frame.f_lineno}"
        if any(library in file for library in LEARNERS):
            return f"{file.split('site-packages/')[-1]}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


# ------------------------------------------------------------------ the device


class EmulatedTensor(torch.Tensor):
    """A tensor of the device: a shell around one of the CPU."""

    inside: torch.Tensor

    @staticmethod
    def __new__(cls, inside: torch.Tensor) -> "EmulatedTensor":
        """The shell of `inside`."""
        shell = torch.Tensor._make_wrapper_subclass(
            cls, inside.size(), strides=inside.stride(), storage_offset=inside.storage_offset(),
            dtype=inside.dtype, layout=inside.layout, device=torch.device(NAME, 0),
        )  # fmt: skip
        shell.inside = inside
        return shell

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def __getitem__(self, index: Any) -> torch.Tensor:
        return torch.Tensor.__getitem__(self, _on_device(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        torch.Tensor.__setitem__(self, _on_device(index), value)

    def tolist(self) -> Any:
        _waited("tolist", self.inside.nbytes)
        return self.inside.tolist()

    def new_tensor(self, data: Any, dtype: torch.dtype | None = None, **rest: Any) -> torch.Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=self.device)

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            f"can't convert {NAME}:0 device type tensor to numpy; use Tensor.cpu() first"
        )

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.numpy()

    def pin_memory(self) -> torch.Tensor:
        raise RuntimeError("cannot pin a tensor of a device: only those of the CPU can be pinned")

    def __repr__(self) -> str:
        return f"{self.inside!r} on {NAME}"


def _on_device(index: Any) -> Any:
    """Lists in an index as tensors of the device, which takes a copy to it."""
    if isinstance(index, list):
        return torch.tensor(index, device=NAME)
    if isinstance(index, tuple):
        return tuple(_on_device(i) if isinstance(i, list) else i for i in index)
    return index


WAITS = {
    aten._local_scalar_dense.default: "item",
    aten.is_nonzero.default: "bool",
    aten.equal.default: "equal",
    aten.allclose.default: "allclose",
    aten.nonzero.default: "nonzero",
    aten.masked_select.default: "masked_select",
    aten.bincount.default: "bincount",
    aten._unique2.default: "unique",
    aten.unique_dim.default: "unique",
    aten.unique_consecutive.default: "unique",
    aten._linalg_check_errors.default: "linalg",
}
"""Operations whose result the host has to see, or whose shape it has to know."""

SHAPES = {"nonzero", "masked_select", "bincount", "unique", "linalg"}
"""Of these only the shape is read: the result stays on the device."""

INDEXING = {
    aten.index.Tensor,
    aten._unsafe_index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
COPYING = {aten._to_copy.default, aten.copy_.default, aten.copy.default}
PINNING = {aten._pin_memory.default, aten.is_pinned.default}


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation, computed on the CPU, with what a device would refuse or wait for."""
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    shells = [leaf for leaf in given if isinstance(leaf, EmulatedTensor)]
    device = kwargs.get("device")
    target = torch.device(device).type if device is not None else None
    if not shells and target != NAME:
        return _without_pinning(func, args, kwargs)
    _check_devices(func, args, kwargs, given, to_host=target == "cpu")
    _note(func, args, kwargs, shells[0] if shells else None)
    inner = {k: torch.device("cpu") if k == "device" else v for k, v in kwargs.items()}
    out = func(*tree_map(_inside, args), **tree_map(_inside, inner))
    if target is not None and target != NAME:
        return out
    if torch.Tag.inplace_view in func.tags:  # the shell has to change its shape, too
        _reshape_shell(func, args, kwargs)
    return _results(func, args, kwargs, out)


def _inside(leaf: Any) -> Any:
    return leaf.inside if isinstance(leaf, EmulatedTensor) else leaf


def _without_pinning(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation of the CPU alone; its memory counts as pinned as soon as that is asked for."""
    if func is aten._pin_memory.default:
        return args[0].clone()
    if func is aten.is_pinned.default:
        return False
    return func(*args, **kwargs)


def _check_devices(
    func: Any, args: Any, kwargs: dict[str, Any], given: list[torch.Tensor], to_host: bool
) -> None:
    if kwargs.get("generator") is not None and not to_host:
        raise RuntimeError(f"{func}: expected a generator of {NAME}, got one of the CPU")
    if func in COPYING:
        return
    checked = given
    if func in INDEXING:  # numbers of rows may lie on the host, if those that they name do not
        checked = [args[0], *args[2:3]] if isinstance(args[0], EmulatedTensor) else given
    plain = [t for t in checked if not isinstance(t, EmulatedTensor) and t.dim() > 0]
    if plain:
        raise RuntimeError(
            f"{func}: expected all tensors to be on the same device, but found at least two "
            f"devices, {NAME}:0 and cpu ({[tuple(t.shape) for t in plain]} on the CPU)"
        )


def _note(func: Any, args: Any, kwargs: dict[str, Any], shell: EmulatedTensor | None) -> None:
    """Tell those who record what this operation has the host wait for or copies."""
    if func in COPYING:
        into, source, later = _copied(func, args, kwargs)
        if isinstance(source, EmulatedTensor) and not into:
            _waited("copy to the host", source.inside.nbytes, not later)
        elif into and not isinstance(source, EmulatedTensor):
            _sent(source.nbytes)
    elif func in INDEXING:
        for index in args[1]:
            if isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8):
                _waited("boolean index")
            if isinstance(index, torch.Tensor) and not isinstance(index, EmulatedTensor):
                _sent(index.nbytes)
    elif func in WAITS and shell is not None:
        _waited(WAITS[func], 0 if WAITS[func] in SHAPES else shell.inside.element_size())
    elif func is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None:
        _waited("repeat_interleave")


def _copied(func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[bool, torch.Tensor, bool]:
    """Of a copy: whether it goes to the device, what is copied, and whether nobody waits for it."""
    if func is aten._to_copy.default:
        device = kwargs.get("device") or args[0].device
        return torch.device(device).type == NAME, args[0], bool(kwargs.get("non_blocking"))
    later = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
    return isinstance(args[0], EmulatedTensor), args[1], bool(later)


@cache
def _written(func: Any) -> list[tuple[int, str]]:
    """Places and names of the arguments that an operation writes to."""
    return [
        (place, argument.name)
        for place, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]


def _results(func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> Any:
    """Tensors of the device; of an operation in place, those that it was given."""
    returns = func._schema.returns
    if returns and all(r.alias_info is not None and r.alias_info.is_write for r in returns):
        written = [args[at] if at < len(args) else kwargs[n] for at, n in _written(func)]
        return written[0] if len(returns) == 1 else tuple(written[: len(returns)])
    return tree_map(lambda leaf: EmulatedTensor(leaf) if type(leaf) is torch.Tensor else leaf, out)


def _reshape_shell(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    from torch.utils._mode_utils import no_dispatch

    with no_dispatch():
        before = torch._C._meta_in_tls_dispatch_include()
        torch._C._set_meta_in_tls_dispatch_include(True)
        try:
            func(*args, **kwargs)
        finally:
            torch._C._set_meta_in_tls_dispatch_include(before)


class _Everywhere(TorchDispatchMode):
    """Sees what makes tensors of the device out of none."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to say so at each operation takes long

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if EmulatedTensor not in types and not (kwargs and "device" in kwargs):
            return _without_pinning(func, args, kwargs or {})
        return _run(func, args, kwargs or {})


# ------------------------------------------------------------------ its place in torch


@cache
def install() -> None:
    """Add the device to torch, for good."""
    from torch.utils.backend_registration import (
        _DummyBackendModule,
        _setup_privateuseone_for_python_backend,
    )

    def wait(device: Any = None) -> None:
        _waited("synchronize")

    class Module(_DummyBackendModule):
        kernels: torch.library.Library
        synchronize = staticmethod(wait)

        def is_bf16_supported(self, including_emulation: bool = True) -> bool:
            return False

        def get_rng_state(self, device: Any = None) -> torch.Tensor:
            return torch.empty(0)  # it draws from the CPU's generator

        def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
            pass

        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.bfloat16, torch.float16]

    _setup_privateuseone_for_python_backend(NAME, Module())
    # A module that is moved keeps its parameters, as it does on a GPU: its optimizer has them.
    torch.__future__.set_swap_module_params_on_conversion(True)
    torch.accelerator.synchronize = wait
    torch.tensor, torch.as_tensor = _made(torch.tensor), _made(torch.as_tensor)
    Module.kernels = torch.library.Library("aten", "IMPL")  # kept: it takes them along
    Module.kernels.impl("silu_backward", _silu_backward, "PrivateUse1")
    F.scaled_dot_product_attention = _attention(F.scaled_dot_product_attention)
    _Everywhere().__enter__()


def _silu_backward(slope: EmulatedTensor, given: EmulatedTensor) -> EmulatedTensor:
    """A device without it gets another formula, which rounds otherwise than the CPU's kernel."""
    return EmulatedTensor(aten.silu_backward(slope.inside, given.inside))


def _made(maker: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`torch.tensor` and `torch.as_tensor` fill what they make where no mode sees it."""

    def made(data: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        device = kwargs.pop("device", None)
        if isinstance(data, EmulatedTensor) or device is None:
            return (
                maker(data, *args, **kwargs) if device is None else data.to(device, *args, **kwargs)
            )
        return maker(data, *args, **kwargs).to(device)

    return made


def _attention(attend: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The kernel that torch would choose on the CPU: which one, it asks tensors of the CPU."""

    def attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not isinstance(query, EmulatedTensor):
            return attend(query, key, value, *args, **kwargs)
        inside = [part.inside.requires_grad_(part.requires_grad) for part in (query, key, value)]
        if torch._fused_sdp_choice(*inside, *args, **kwargs) == 1:
            return aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)[0]
        return torch._scaled_dot_product_attention_math(query, key, value, *args, **kwargs)[0]

    return attention
