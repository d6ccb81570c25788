"""AutoNAT's Algorithm 1: schedule and training by turns, on proxies of a shipped bundle."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.search import search
from agents.search.arguments import Arguments, FiniteDifferencesConfig
from eval.autonat.arguments import Alternation
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.judging import check_bundle_rank
from nat_env.bundles.loading import load_bundle
from nat_env.policies import ScheduledPolicy
from nat_env.storage.claims import claimed
from nat_env.storage.files import write_json
from pretrain.config import PRESETS
from pretrain.data.digits import digits
from pretrain.data.fashion import fashion_mnist
from pretrain.strategy import Proxies, ProxyObjective, greedy_search
from pretrain.tokenizer import encode_all

HISTORY = "alternation.json"
CONFIG = "alternation_config.json"


def alternate(arguments: Alternation) -> list[dict[str, Any]]:
    """Algorithm 1.

    Returns:
        One row for each turn: mask ratio, FD of the schedule on the model trained under it, images,
        proxy trainings and updates of the schedule so far. Also written to alternation.json.

    Raises:
        ValueError: an argument that is not allowed, or a folder that cannot be written or holds
            another alternation.
        ImportError: see `proxies`.
    """
    bundle = load_bundle(arguments.bundle, **arguments.models())
    for name in ("search_samples", "proxy_samples"):
        check_bundle_rank(bundle, getattr(arguments, name), name)
    models = proxies(arguments, bundle)
    with claimed(arguments.out, CONFIG, _identity(arguments, bundle)):
        return _alternate(arguments, models)


def _alternate(arguments: Alternation, models: Proxies) -> list[dict[str, Any]]:
    mask_ratio, initialisation = arguments.start, "heuristic"
    rows: list[dict[str, Any]] = []
    images, num_updates, trained = 0, 0, set[str]()
    for turn in range(arguments.turns):
        folder = arguments.out / f"turn{turn}"
        model = models.trained(mask_ratio.name)
        found = search.search(_search(arguments, folder / "generation", initialisation), model)
        initialisation = str(folder / "generation" / search.SCHEDULE)
        schedule = found.best
        objective = ProxyObjective(
            models,
            ScheduledPolicy(schedule),
            arguments.num_steps,
            arguments.proxy_samples,
            folder / "training",
        )
        mask_ratio, value = greedy_search(objective, mask_ratio)
        images += found.images + len(objective.trials) * arguments.proxy_samples
        num_updates += found.updates
        trained |= objective.trials.keys()
        rows.append(
            {
                "turn": turn + 1,
                "mask_ratio": mask_ratio.name,
                "frechet_distance": value,
                "images": images,
                "proxy_trainings": len(trained),
                "updates": num_updates,
                "schedule": schedule.table.tolist(),
            }
        )
        write_json(arguments.out / HISTORY, rows)
        schedule.save(arguments.out / search.SCHEDULE)
        if turn and abs(value - rows[-2]["frechet_distance"]) <= arguments.tolerance:
            break
    return rows


def proxies(arguments: Alternation, bundle: Bundle) -> Proxies:
    """The models that an alternation trains, in its sub-folder `proxies`.

    Raises:
        ValueError: the data set is not where it is looked for.
        ImportError: scikit-learn, which has the digits, is not installed.
    """
    data = digits() if arguments.bundle == "digits" else fashion_mnist(arguments.data)
    ids = encode_all(bundle.tokenizer, data.train_images, bundle.device)
    preset = PRESETS[arguments.bundle].transformer
    training = replace(preset, loop=replace(preset.loop, epochs=arguments.epochs))
    folder = arguments.out / "proxies"
    return Proxies(bundle, ids, data.train_labels, training, folder, arguments.seed)


def _search(arguments: Alternation, folder: Path, initialisation: str) -> Arguments:
    found = Arguments(
        arguments.method,
        out=folder,
        bundle=arguments.bundle,
        num_steps=arguments.num_steps,
        budget=arguments.budget,
        num_samples=arguments.search_samples,
        seed=arguments.seed,
        **arguments.computation(),
        finite_differences=FiniteDifferencesConfig(initialisation),
    )
    return replace(found, cma=replace(found.cma, initialisation=initialisation))


def computed_by(bundle: Bundle) -> dict[str, Any]:
    """What distances depend on besides the arguments, as files have it."""
    other = bundle.decoder_dtype if bundle.decoder_dtype != "float32" else None
    return {"dtype": bundle.dtype, "decoder_dtype": other, "fingerprint": bundle.fingerprint}


def _identity(arguments: Alternation, bundle: Bundle) -> dict[str, Any]:
    return arguments.as_json() | computed_by(bundle)


def command(arguments: Alternation) -> None:
    """Alternate, and show the turns."""
    for row in alternate(arguments):
        print(
            f"turn {row['turn']}: {row['mask_ratio']}, FD {row['frechet_distance']:.3f} "
            f"(N = {arguments.proxy_samples}), {row['images']} images, "
            f"{row['proxy_trainings']} proxy trainings, {row['updates']} updates"
        )
    print(arguments.out / search.SCHEDULE)
