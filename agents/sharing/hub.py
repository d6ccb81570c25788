"""Sharing policies, command nat-share: a folder, or a repository of the Hugging Face hub."""

import tempfile
from pathlib import Path
from typing import Any

from agents.learners.config import TrainConfig
from agents.learners.trained import TrainedPolicy
from agents.reports.quantities import PICTURE, save_policy_card
from agents.runs.checkpoint import (
    CONFIG,
    RESIDUAL,
    decided_quantities,
    load_about,
    load_policy,
    load_run_config,
    run_fingerprint,
)
from agents.sharing.arguments import Share
from agents.sharing.card import model_card
from agents.sharing.copying import copy_policy, without_paths
from nat_env.bundles.bundle import Bundle
from nat_env.storage.files import write_text
from nat_env.storage.folders import check_new, written_folder

HUB = "hub:"
"""Before a repository's name: `hub:user/name`; anything else is a folder."""

CARD = "README.md"
_WEIGHTS = "best.safetensors"
_FILES = (_WEIGHTS, CONFIG, RESIDUAL, CARD, PICTURE)


def push_policy(run: Path, target: str, license: str = "mit", private: bool = False) -> str:
    """Share a run's best policy.

    Args:
        run: the run folder, or a shared one.
        target: a new or empty folder, or `hub:user/name`.
        license: an identifier of the hub's.
        private: whether a new repository is.

    Returns:
        Where it is: the folder, or the address of the repository's commit.

    Raises:
        ValueError: no run or one without a policy, a folder that is not empty or cannot be
            written, or a hub that refuses.
    """
    config, about = load_run_config(run), load_about(run)
    if not config.eval_every:
        raise ValueError(f"run: {str(run)!r} was trained without the evaluations that a card tells")
    missing = {"judge", "actions"} - set(about)
    if missing:
        raise ValueError(f"run: {str(run)!r} is of an older version, without {sorted(missing)}")
    if not target.startswith(HUB):
        check_new(Path(target), "target")
    config = without_paths(config)
    decided = decided_quantities(run)
    card = model_card(config, run_fingerprint(run), decided, about, target, license)
    if not target.startswith(HUB):
        with written_folder(Path(target), CONFIG, argument="target") as aside:
            _fill(aside, run, config, about, card)
        return target
    with tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder), run, config, about, card)
        return _upload(Path(folder), target, private)


def shared_folder(spec: str) -> Path:
    """The folder that holds what `push_policy` shared; a repository's files are downloaded once.

    Args:
        spec: a folder, `hub:user/name` or `hub:user/name@revision`.

    Raises:
        ValueError: there is no such repository, or it cannot be reached.
    """
    if not spec.startswith(HUB):
        return Path(spec)
    hub = _hub()
    name, _, revision = spec.removeprefix(HUB).partition("@")
    try:
        found = hub.snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=list(_FILES),
        )
    except _hub_errors() as error:
        raise ValueError(f"policy: cannot get {spec!r} from the hub ({error})") from error
    return Path(found)


def load_shared_policy(spec: str, bundle: Bundle) -> TrainedPolicy:
    """The policy that `push_policy` shared as `spec`, for the bundle that it was trained on.

    Of one that sees confidences that may be any on the same grid of tokens.

    Raises:
        ValueError: no policy there, or one of another bundle.
    """
    return load_policy(shared_folder(spec), bundle)


def _fill(folder: Path, run: Path, config: TrainConfig, about: dict[str, Any], card: str) -> None:
    copy_policy(run, folder)
    save_policy_card(folder / PICTURE, about["actions"], config.bundle)
    write_text(folder / CARD, card)


def _upload(folder: Path, target: str, private: bool) -> str:
    hub, name = _hub(), target.removeprefix(HUB)
    try:
        hub.create_repo(name, private=private, exist_ok=True)
        return str(hub.upload_folder(repo_id=name, folder_path=folder))
    except _hub_errors() as error:
        raise ValueError(
            f"target: cannot write to {target!r} ({error}); `hf auth login` logs in to the hub"
        ) from error


def _hub() -> Any:
    import huggingface_hub  # slow to import, and seldom used

    return huggingface_hub


def _hub_errors() -> tuple[type[Exception], ...]:
    """What an unknown name, a refusal, or no connection raises."""
    return (OSError, ValueError, _hub().errors.HTTPError)


def command(arguments: Share) -> None:
    """Share the policy, and say where it is."""
    where = push_policy(arguments.run, arguments.target, arguments.license, arguments.private)
    print(f"{where}\nnat-sample --policy {arguments.target} --out grid.png shows what it draws")
