"""The options of a command, from the command line into its dataclass, and their help."""

import dataclasses
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar, Union, get_type_hints

import docstring_parser
import tyro

from nat_env.commands.computation import Computation
from nat_env.commands.glossary import described

T = TypeVar("T")

_GROUP = "_group"
"""Ends the name of a field of a view that holds a group."""


def parse(kind: type[T], prog: str, args: list[str] | None = None) -> T:
    """Options as their dataclass; an error in the words, or --help, ends the program.

    The help shows the options that the dataclass declares itself, then those of each base in a
    group of its own; nested dataclasses have groups too, and their options a prefix.

    Args:
        kind: the dataclass; its docstring, and those under its fields, are the help.
        prog: what the command is called.
        args: the words; by default those of the program.

    Raises:
        ValueError: see the dataclass.
    """
    view = _view(kind)
    about = described(view.__doc__ or "", _words(kind))
    config = (tyro.conf.AvoidSubcommands,)
    return _plain(kind, tyro.cli(view, prog=prog, description=about, args=args, config=config))


def parse_one_of(
    choices: Mapping[str, tuple[str, T | type[T]]],
    prog: str,
    args: list[str] | None = None,
    about: str = "",
) -> tuple[str, T]:
    """One of several by name, and its options.

    Args:
        choices: by name, what it is (by default the dataclass's docstring), and a dataclass, or an
            instance that has the defaults.
        prog: what the command is called.
        args: the words; by default those of the program.
        about: what the command does; by default the first one's docstring.

    Returns:
        The name and the options.

    Raises:
        ValueError: the first word is none of the choices, or see the dataclass.
    """
    asked = sys.argv[1:] if args is None else args
    first = asked[0] if asked else "nothing"
    if first not in (*choices, "-h", "--help") and not first.startswith("--tyro-"):
        raise ValueError(
            f"got {first!r}, allowed is first one of {', '.join(choices)}; see {prog} --help"
        )
    names: dict[type, str] = {}
    members = []
    for name, (text, choice) in choices.items():
        view = _view(_kind(choice))
        names[view] = name
        default = {} if isinstance(choice, type) else {"default": _viewed(view, choice)}
        shown = _reflowed(text or view.__doc__ or "")
        if asked[:1] == [name]:  # not in the list of all, whose lines tyro breaks, but on its own
            shown = described(shown, f"{shown} {_words(_kind(choice))}")
        members.append(Annotated[view, tyro.conf.subcommand(name, description=shown, **default)])
    about = about or _reflowed(_kind(next(iter(choices.values()))[1]).__doc__ or "")
    found = tyro.cli(
        Union[tuple(members)],  # type: ignore[arg-type]  # noqa: UP007
        prog=prog,
        description=described(about, about),
        args=args,
        config=(tyro.conf.AvoidSubcommands,),
    )
    name = names[type(found)]
    return name, _plain(_kind(choices[name][1]), found)


def _kind(choice: T | type[T]) -> type[T]:
    return choice if isinstance(choice, type) else type(choice)


def _view(kind: type, grouped: bool = True) -> type:
    """A dataclass like `kind` as tyro shows it best: help in whole paragraphs, bases as groups.

    tyro keeps the line breaks that a docstring has in its source, and groups what is nested.
    """
    hints, helps = get_type_hints(kind, include_extras=True), _helps(kind)
    declared = list(_declared(kind)) if grouped else [(kind, list(dataclasses.fields(kind)))]
    members: list[tuple[str, Any, Any]] = []
    for owner, fields in declared:
        found = [_member(field, hints[field.name], helps.get(field.name, "")) for field in fields]
        if owner is kind:
            members += found
            continue
        group = dataclasses.make_dataclass(owner.__name__, found, kw_only=True, frozen=True)
        group.__doc__ = _reflowed(owner.__doc__ or "")
        title = _title(owner)
        shown = Annotated[group, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name=title)]
        members.append((title + _GROUP, shown, dataclasses.field()))
    members.sort(key=lambda member: member[0] in hints and _is_nested(hints[member[0]]))
    view = dataclasses.make_dataclass(kind.__name__, members, kw_only=True, frozen=True)
    view.__doc__ = _reflowed(kind.__doc__ or "")
    return view


def _member(field: dataclasses.Field[Any], hint: Any, text: str) -> tuple[str, Any, Any]:
    """A field of a view: the same one, with its help."""
    inner = _plain_type(hint)
    marks = hint.__metadata__ if hasattr(hint, "__metadata__") else ()
    if text:
        marks = (*marks, tyro.conf.arg(help=text))
    options: dict[str, Any] = {}
    if dataclasses.is_dataclass(inner):
        inner = _view(inner, grouped=False)  # type: ignore[arg-type]
        view: Any = inner
        if field.default_factory is not dataclasses.MISSING:
            made = field.default_factory
            options["default_factory"] = lambda: _viewed(view, made())
    elif field.default_factory is not dataclasses.MISSING:
        options["default_factory"] = field.default_factory
    elif field.default is not dataclasses.MISSING:
        options["default"] = field.default
    shown = Annotated[(inner, *marks)] if marks else inner  # type: ignore[valid-type]
    return field.name, shown, dataclasses.field(**options)


def _viewed(view: type, options: Any) -> Any:
    """An instance of a view with the values of `options`."""
    values = {}
    for field in dataclasses.fields(view):
        if field.name.endswith(_GROUP):  # its values are among those of the whole
            values[field.name] = _viewed(_plain_type(field.type), options)
        elif _is_nested(field.type):
            value = getattr(options, field.name)
            values[field.name] = _viewed(_plain_type(field.type), value)
        else:
            values[field.name] = getattr(options, field.name)
    return view(**values)


def _plain(kind: type[T], view: Any) -> T:
    """The options of which `view` has the values."""
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(view):
        value = getattr(view, field.name)
        if field.name.endswith(_GROUP):
            values |= {part.name: getattr(value, part.name) for part in dataclasses.fields(value)}
        else:
            values[field.name] = value
    for name, value in values.items():
        if _is_nested(hints[name]):
            values[name] = _plain(hints[name], value)
    return kind(**values)


def _is_nested(hint: Any) -> bool:
    return dataclasses.is_dataclass(_plain_type(hint))


def _plain_type(hint: Any) -> Any:
    """Without marks: `int` of `Annotated[int, Ge(1)]`."""
    return hint.__origin__ if hasattr(hint, "__metadata__") else hint


def _declared(kind: type) -> Iterator[tuple[type, list[dataclasses.Field[Any]]]]:
    """The fields of a dataclass by the class that declares them: itself, then its bases.

    How it computes comes last, whatever the bases' order.
    """
    by_name = {field.name: field for field in dataclasses.fields(kind)}
    bases = sorted(reversed(kind.__mro__[1:]), key=Computation.__mro__.__contains__)
    for owner in (kind, *bases):
        own = [by_name.pop(n) for n in vars(owner).get("__annotations__", ()) if n in by_name]
        if own:
            yield owner, own


def _helps(kind: type) -> dict[str, str]:
    """The docstrings under the fields of a dataclass and its bases, each as one line."""
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if dataclasses.is_dataclass(owner):
            for text in docstring_parser.parse_from_object(owner).params:
                found[text.arg_name] = _reflowed(text.description or "")
    return found


def _words(kind: type) -> str:
    """All that the help of a dataclass says, with the names of its options."""
    hints = get_type_hints(kind)
    inner = (_words(hints[f.name]) for f in dataclasses.fields(kind) if _is_nested(hints[f.name]))
    names = (field.name.replace("_", " ") for field in dataclasses.fields(kind))
    return " ".join([kind.__doc__ or "", *names, *_helps(kind).values(), *inner])


def _reflowed(text: str) -> str:
    """Every paragraph as one line, for the terminal to break."""
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip()))


def _title(owner: type) -> str:
    """`own` of `OwnOptions`: the help adds "options"."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", owner.__name__.removesuffix("Options")).lower()
