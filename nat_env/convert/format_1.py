"""A bundle of format 1, which was one class-conditional U-ViT with a judge and real images."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.format import DESCRIPTION, check_files, fingerprint
from nat_env.bundles.loading import load_bundle
from nat_env.bundles.reals import TensorReals
from nat_env.bundles.statistics import GaussianStatistics
from nat_env.bundles.writer import save_bundle
from nat_env.bundles.yardstick import Yardstick
from nat_env.convert.arguments import ConvertBundle
from nat_env.frozen.conditions import Conditions
from nat_env.models.classifier import Classifier, ClassifierConfig
from nat_env.models.uvit import UViT, UViTConfig
from nat_env.models.vq import VQTokenizer
from nat_env.storage.files import check_apart


def convert_format_1(old: Path, out: Path) -> Bundle:
    """Write the bundle in `old` in today's format.

    It holds the same models, and keeps its fingerprint: runs and results of the one are of the
    other.

    Args:
        old: folder of a bundle of format 1.
        out: a folder apart from it.

    Raises:
        ValueError: no such bundle, files that are damaged, or a folder that cannot be written.
    """
    check_apart(out=out, old=old)
    try:
        description = json.loads((old / DESCRIPTION).read_text(encoding="utf-8"))
        version, hashes = description["format"], description["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"bundle: {old / DESCRIPTION} is damaged ({error!r})") from error
    if version != 1:
        raise ValueError(f"bundle: format {version} in {str(old)!r}, allowed is 1")
    check_files(old, hashes)
    try:
        conditions = Conditions(tuple(description["class_names"]))
        config = json.loads((old / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
        tokenizer = VQTokenizer.load(old / "tokenizer", config, conditions)
        sizes: dict[str, Any] = dict(description["transformer"]) | {"grid": tokenizer.grid}
        del sizes["num_tokens"]
        transformer = UViT(UViTConfig(**sizes))
        transformer.load_state_dict(load_file(old / "transformer.safetensors"))
        tables = load_file(old / "statistics.safetensors")
        real = load_file(old / "real.safetensors")
        save_bundle(
            out,
            name=description["name"],
            conditions=conditions,
            transformer=transformer,
            tokenizer=tokenizer,
            yardstick=Yardstick(
                f"{description['name']}-judge",
                _classifier(old, "judge", description),
                GaussianStatistics(
                    tables["mean"].numpy(), tables["covariance"].numpy(), int(tables["count"])
                ),
            ),
            trunk=_classifier(old, "features", description),
            reals=TensorReals(real["images"], real["labels"], real["ids"].long()),
            training=description["training"],
            quality=description["quality"],
            known_as=fingerprint(hashes),
        )
    except (KeyError, TypeError, RuntimeError, OSError, SafetensorError) as error:
        raise ValueError(f"bundle: {str(old)!r} does not fit together ({error})") from error
    return load_bundle(out)


def command(arguments: ConvertBundle) -> None:
    """Convert, and say what came out."""
    bundle = convert_format_1(arguments.old, arguments.out)
    print(
        f"{arguments.out}: {bundle.name}, {len(bundle.conditions)} conditions, fingerprint "
        f"{bundle.fingerprint[:8]} as before"
    )


def _classifier(folder: Path, part: str, description: dict[str, Any]) -> Classifier:
    values = description[part] | {"widths": tuple(description[part]["widths"])}
    classifier = Classifier(ClassifierConfig(**values))
    weights = load_file(folder / f"{part}.safetensors")
    classifier.load_state_dict({k.replace("trunk.", "layers."): v for k, v in weights.items()})
    return classifier.eval()
