"""A pipeline's folder: a bundle, and what decides the four quantities, beside each other.

model_index.json    says that it is one, and names the policy
bundle/             as nat_env.bundles.format has it
policy/             of a learned one: weights and configuration
schedule.json       of a schedule
"""

import shutil
from pathlib import Path
from typing import Any

from agents.sharing.copying import copy_policy
from agents.sharing.names import is_of_any_t, run_of
from nat_env.bundles.format import DESCRIPTION, read_description
from nat_env.schedules import Schedule
from nat_env.storage.files import read_json, write_json
from nat_env.storage.folders import check_new, written_folder

INDEX = "model_index.json"
BUNDLE = "bundle"
_POLICY, _SCHEDULE = "policy", "schedule.json"
_CLASS = "NATPipeline"


def write_pipeline(folder: Path, bundle: Path, policy: str | Schedule) -> None:
    """Write a pipeline: whole, or not at all.

    Args:
        folder: a new or empty one.
        bundle: folder of the bundle.
        policy: see `agents.sharing.names.named_policy`, or a schedule.

    Raises:
        ValueError: `folder` holds something or cannot be written, or a file is missing or damaged.
    """
    check_new(folder)
    files = read_description(bundle)["files"]
    with written_folder(folder, INDEX) as aside:
        for name in (*files, DESCRIPTION):
            place = aside / BUNDLE / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle / name, place)
        named = _written_policy(aside, policy)
        write_json(aside / INDEX, {"_class_name": _CLASS, "policy": named})


def _written_policy(folder: Path, policy: str | Schedule) -> str:
    """What names the policy: relative to `folder`, or a schedule of any T."""
    if isinstance(policy, str):
        if is_of_any_t(policy):
            return policy.strip()
        if run := run_of(policy):
            (folder / _POLICY).mkdir()
            return copy_policy(run[0], folder / _POLICY, run[1]).relative_to(folder).as_posix()
        policy = Schedule.load(Path(policy))
    policy.save(folder / _SCHEDULE)
    return _SCHEDULE


def read_pipeline(folder: Path) -> tuple[Path, str] | None:
    """The bundle's folder and the policy of the pipeline in `folder`; None if there is none.

    Raises:
        ValueError: a damaged one, or one of another class.
    """
    if not (folder / INDEX).is_file():
        return None

    def form(values: Any) -> tuple[str, str]:
        return values["_class_name"], str(values.get("policy"))

    kind, policy = read_json(folder / INDEX, "pipeline", form)
    if kind != _CLASS:
        hint = "; nat-convert amused makes a bundle of it" if kind == "AmusedPipeline" else ""
        raise ValueError(f"pipeline: {folder / INDEX} is of {kind}, allowed is {_CLASS}{hint}")
    return folder / BUNDLE, policy if is_of_any_t(policy) else str(folder / policy)
