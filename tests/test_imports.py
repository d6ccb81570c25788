"""The direction of imports between our packages, and what must not be imported or installed."""

import ast
import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGES = {"nat_env", "agents", "pretrain", "eval"}
MAY_IMPORT = {
    "nat_env": set(),
    "agents": {"nat_env"},
    "pretrain": {"nat_env"},
    "eval": {"nat_env", "agents", "pretrain"},
}
LEARNING_LIBRARIES = {"stable_baselines3", "sb3_contrib"}
HEAVY = {"diffusers", "transformers", "matplotlib"} | LEARNING_LIBRARIES
MODULES_IN_A_FOLDER = 12
NEEDS_TORCHVISION = {"torchvision", "torch-fidelity", "timm", "clean-fid", "lpips"}


def forbidden_to(package: str) -> set[str]:
    """The top-level modules that no file of a package may import, at any level of nesting."""
    ours = PACKAGES - {package} - MAY_IMPORT[package]
    return ours | LEARNING_LIBRARIES if package == "nat_env" else ours


def imported_names(source: str) -> set[str]:
    """The dotted names of all absolute imports in a source, wherever they stand in it."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=found):
                names.update(name.name for name in found)
            case ast.ImportFrom(module=str(module), level=0, names=found):
                names.update(f"{module}.{name.name}" for name in found)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                names.add(module)
    return names


def imported_modules(source: str) -> set[str]:
    """The top-level names of all absolute imports in a source."""
    return {name.partition(".")[0] for name in imported_names(source)}


def room(path: str) -> str:
    """The folder of a file: a package, or one under it."""
    return path.rpartition("/")[0]


def module(path: str) -> str:
    """A file without its ending; a folder for what makes it a package."""
    return path.removesuffix(".py").removesuffix("/__init__")


def imports(sources: Mapping[str, str], place: Callable[[str], str]) -> dict[str, set[str]]:
    """Which places of a package each place of it imports.

    What `__init__.py` of the package offers to its users is left out.

    Args:
        sources: by path, "nat_env/rewards/clip.py".
        place: of a path, `room` or `module`.
    """
    found: dict[str, set[str]] = {place(path): set() for path in sources}
    for path, source in sources.items():
        if path.count("/") == 1 and path.endswith("/__init__.py"):
            continue
        for name in imported_names(source):
            parts = name.split(".")
            inside = ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]
            imported = next((other for other in inside if other in found), None)
            if imported is not None and imported != place(path):
                found[place(path)].add(imported)
    return found


def circle(sources: Mapping[str, str], place: Callable[[str], str]) -> list[str]:
    """Places that import each other in a circle; none where imports have one direction."""
    try:
        TopologicalSorter(imports(sources, place)).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def sources_of(package: str) -> dict[str, str]:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"no source files under {ROOT / package}"
    return {file.relative_to(ROOT).as_posix(): file.read_text("utf-8") for file in files}


def distributions_among(requirements: Iterable[str], names: set[str]) -> set[str]:
    """Which of the named distributions a list of requirements asks for."""
    return {canonicalize_name(Requirement(text).name) for text in requirements} & names


def modules_loaded_by(statement: str) -> set[str]:
    """The top-level modules in a fresh interpreter's memory after one statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {module.partition(".")[0] for module in result.stdout.split()}


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_imports_follow_the_arrows(package):
    wrong = {
        path: sorted(found)
        for path, source in sources_of(package).items()
        if (found := imported_modules(source) & forbidden_to(package))
    }
    assert not wrong


@pytest.mark.parametrize("place", [room, module])
@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_rooms_and_modules_import_in_one_direction(package, place):
    assert circle(sources_of(package), place) == []


def test_a_planted_circle_is_caught():
    one_way = {
        "agents/__init__.py": "from agents.learners.ppo import PPO",
        "agents/learners/ppo.py": "import torch, nat_env.env",
        "agents/runs/checkpoint.py": "from agents.learners.ppo import PPO",
        "agents/runs/paths.py": "from agents.runs import checkpoint",
        "agents/training/train.py": "from agents import runs, learners",
    }
    assert circle(one_way, room) == circle(one_way, module) == []
    assert imports(one_way, room)["agents/training"] == {"agents/runs", "agents/learners"}
    assert imports(one_way, module)["agents/runs/paths"] == {"agents/runs/checkpoint"}
    back = {"agents/learners/state.py": "def load():\n    import agents.training.train"}
    assert set(circle(one_way | back, room)) >= {"agents/learners", "agents/training"}
    assert circle(one_way | back, module) == []
    back = {"agents/runs/checkpoint.py": "from agents.runs.paths import resolved"}
    assert circle(one_way | back, room) == []
    assert set(circle(one_way | back, module)) == {"agents/runs/checkpoint", "agents/runs/paths"}


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_folder_holds_a_dozen_modules_at_most(package):
    modules = [path for path in sources_of(package) if not path.endswith("/__init__.py")]
    counts: dict[str, int] = {}
    for path in modules:
        folder = path.rpartition("/")[0]
        counts[folder] = counts.get(folder, 0) + 1
    assert {f: n for f, n in counts.items() if n > MODULES_IN_A_FOLDER} == {}


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_other_checkers_are_told_of_the_types(package):
    assert (ROOT / package / "py.typed").is_file()


def test_the_examples_need_the_environment_alone():
    files = sorted((ROOT / "notebooks").glob("*.py"))
    assert files
    for file in files:
        found = imported_modules(file.read_text("utf-8"))
        assert found & (PACKAGES | LEARNING_LIBRARIES) == {"nat_env"}, file


@pytest.mark.parametrize(
    ("package", "line", "caught"),
    [
        ("nat_env", "import agents", "agents"),
        ("nat_env", "import numpy, pretrain.run as run", "pretrain"),
        ("nat_env", "from eval.metrics.sample_metrics import frechet_distance", "eval"),
        ("nat_env", "from stable_baselines3 import PPO", "stable_baselines3"),
        ("nat_env", "import sb3_contrib.tqc", "sb3_contrib"),
        ("agents", "import importlib; importlib.import_module('pretrain.run')", "pretrain"),
        ("agents", "from importlib import import_module; import_module('eval')", "eval"),
        ("pretrain", "__import__('agents')", "agents"),
        ("pretrain", "from eval import metrics", "eval"),
    ],
)
@pytest.mark.parametrize("place", ["{}", "def load():\n    if True:\n        {}"])
def test_a_planted_import_is_caught(package, line, caught, place):
    assert imported_modules(place.format(line)) & forbidden_to(package) == {caught}


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("nat_env", "from nat_env.decoding import step"),
        ("nat_env", "from . import eval"),
        ("nat_env", "from .agents import anything"),
        ("nat_env", "import evaluate, agents_of_others"),
        ("agents", "import nat_env, stable_baselines3"),
        ("pretrain", "from nat_env.bundles.bundle import Bundle"),
        ("eval", "import nat_env, agents.runs.checkpoint"),
        ("eval", "from pretrain.strategy import greedy_search"),
        ("agents", "'import pretrain'"),
    ],
)
def test_an_allowed_import_is_not_caught(package, line):
    assert not imported_modules(line) & forbidden_to(package)


def test_nothing_we_ask_for_needs_torchvision():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    assert distributions_among(asked, {"torch"}) == {"torch"}
    assert distributions_among(asked, NEEDS_TORCHVISION) == set()


def test_a_planted_requirement_is_caught():
    planted = ["numpy", "TorchVision[gdown]>=0.20; python_version > '3'", "torch_fidelity"]
    caught = distributions_among(planted, NEEDS_TORCHVISION)
    assert caught == {"torchvision", "torch-fidelity"}


def test_torchvision_is_not_installed():
    assert importlib.util.find_spec("torch") is not None
    assert importlib.util.find_spec("torchvision") is None


def test_importing_the_environment_is_light():
    loaded = modules_loaded_by("import nat_env")
    assert "nat_env" in loaded
    assert loaded & HEAVY == set()


def test_a_planted_heavy_import_is_caught():
    assert modules_loaded_by("import matplotlib") & HEAVY == {"matplotlib"}
