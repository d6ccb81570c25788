"""Other packages and folders that are called `agents`, `eval` or `pretrain`, as ours are.

The three lie beside `nat_env`, at the top level, in the repository and where they are installed:
that is what editable installs, wheels, pytest, pyright and notebooks take without a word of
configuration, and what a reader of the tree expects. The price is that the names are not ours
alone: openai-agents has an `agents` too, many a folder an `eval`, and pip overwrites the files of
one distribution by those of another without a warning. Installing them under other names than
they have in the repository (a rewriting build, a finder, aliases in `sys.modules`) would hide that
from some tools and break others. So a command, which enters through `nat_env`, a name that nobody
else has, looks first whether the packages that Python would import are the ones beside it.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("agents", "pretrain", "eval")


def check_packages(names: Sequence[str] = PACKAGES, home: Path | None = None) -> None:
    """Check that Python would import our packages, and that no other distribution shares a file.

    Nothing is imported by it. Without an installation in `home`, as in a clone, only the packages'
    places are looked at.

    Args:
        names: of our top-level packages.
        home: the folder that they are in; by default that of `nat_env`.

    Raises:
        ImportError: another package or folder of that name comes first, or another distribution
            has written to ours, or ours to its.
    """
    home = home or Path(__file__).resolve().parents[2]
    for name in names:
        spec = find_spec(name)
        places = [Path(p).resolve() for p in (spec and spec.submodule_search_locations) or ()]
        if spec is not None and spec.origin not in (None, "namespace"):
            places = [Path(spec.origin).resolve().parent]
        if places[:1] != [home / name]:
            raise ImportError(_elsewhere(name, places))
    records = list(home.glob("*.dist-info/RECORD"))
    for record in records:
        listed = record.read_bytes()
        for name in names:
            ours = record.parent.name.startswith("nat_env-")
            if not ours and f"\n{name}/__init__.py,".encode() in b"\n" + listed:
                raise ImportError(
                    f"the package {name!r} in {home} is shared with {_title(record)}, which has "
                    "one of the same name, and one has overwritten the other; install nat-env "
                    "again in an environment of its own"
                )


def _elsewhere(name: str, places: Sequence[Path]) -> str:
    if not places:
        return f"there is no package {name!r} beside nat_env; install nat-env again"
    place = places[0]
    for record in place.parent.glob("*.dist-info/RECORD"):
        if f"\n{name}/".encode() in b"\n" + record.read_bytes():
            return (
                f"Python finds the package {name!r} of {_title(record)} in {place.parent} instead "
                "of nat-env's; install nat-env in an environment of its own"
            )
    return (
        f"Python finds the folder {place} instead of nat-env's package {name!r}; rename it, or "
        "take its parent off PYTHONPATH"
    )


def _title(record: Path) -> str:
    """`openai-agents 0.4.2` of a distribution's RECORD."""
    name, _, version = record.parent.name.removesuffix(".dist-info").rpartition("-")
    return f"{name.replace('_', '-')} {version}"
