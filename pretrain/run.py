"""Command nat-pretrain: a bundle from a data set."""

import shlex
from dataclasses import replace

from nat_env.bundles.loading import own_spec
from nat_env.images.image_folder import find_images
from nat_env.parallel.launch import started
from nat_env.storage.files import check_apart
from pretrain.arguments import Digits, Fashion, Folder
from pretrain.config import PRESETS, PretrainConfig, folder_config
from pretrain.data.digits import digits
from pretrain.data.fashion import fashion_mnist
from pretrain.data.folder import check_folder, folder_images
from pretrain.data.labelled import LabelledImages
from pretrain.data.names import check_name
from pretrain.make import make_bundle
from pretrain.parallel.execution import Execution


def command(arguments: Fashion | Digits | Folder) -> None:
    """Make the bundle; every part resumes from `work` where it stopped."""
    with started(arguments.device) as processes:
        execution = Execution(processes, arguments.mixed_precision, arguments.accumulate)
        with processes.main_first():
            source = None if isinstance(arguments, Digits) else arguments.data
            for name, folder in (("out", arguments.out), ("work", arguments.parts)):
                check_apart(**{name: folder, "data": source})
            data, config = prepared(arguments)
        make_bundle(data, config, arguments.parts / data.name, arguments.out, execution)
        train = ["nat-train", "custom", "--bundle", own_spec(arguments.out), "--out", "runs/mine"]
        print(f"next, a policy for it: {shlex.join(train)}")


def prepared(arguments: Fashion | Digits | Folder) -> tuple[LabelledImages, PretrainConfig]:
    """The data set, and what a bundle of it is made with.

    Raises:
        ValueError: files that are missing or damaged, or sizes that do not go together.
        ImportError: scikit-learn, which has the digits, is not installed.
    """
    if isinstance(arguments, Fashion):
        return fashion_mnist(arguments.data), PRESETS["fashion"]
    if isinstance(arguments, Digits):
        return digits(), PRESETS["digits"]
    folder = find_images(arguments.data)
    print(folder)
    check_folder(folder)
    check_name("name", arguments.name or arguments.data.resolve().name)
    side = arguments.image_size  # before the reading, which takes a while
    _config(arguments, len(folder.paths)).sizes(3, (side, side), len(folder.files))
    data = folder_images(folder, side, arguments.channels, arguments.name)
    return data, _config(arguments, len(data.train_images))


def _config(arguments: Folder, num_images: int) -> PretrainConfig:
    return replace(
        folder_config(num_images, arguments.image_size, arguments.epochs_factor),
        codebook_size=arguments.codebook_size,
        hidden_size=arguments.hidden_size,
        depth=arguments.depth,
        seed=arguments.seed,
    )
