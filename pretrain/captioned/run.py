"""Command nat-pretrain emoji: a bundle of prompts from images with captions."""

import shlex

from nat_env.bundles.loading import own_spec
from nat_env.parallel.launch import started
from nat_env.storage.files import check_apart
from nat_env.text.sentences import StyledSentences
from pretrain.arguments import Emoji
from pretrain.captioned.config import CaptionedConfig
from pretrain.captioned.make import check_execution, make_captioned_bundle
from pretrain.data.emoji import emoji
from pretrain.data.notices import notices
from pretrain.parallel.execution import Execution

DRAWN = 2
"""Images are drawn so many times as large as the bundle's, and reduced after they were moved."""


def command(arguments: Emoji) -> None:
    """Make the bundle; every part resumes from `work` where it stopped."""
    config = CaptionedConfig(image_size=arguments.image_size)
    config.tokenizer_size()  # this and what follows before the drawing, which takes a minute
    with started(arguments.device) as processes:
        execution = Execution(processes, arguments.mixed_precision, arguments.accumulate)
        for name, folder in (("out", arguments.out), ("work", arguments.parts)):
            check_apart(**{name: folder, "data": arguments.data})
        check_execution(config, execution)
        data = emoji(arguments.data, DRAWN * arguments.image_size)
        make_captioned_bundle(
            data,
            StyledSentences(data.styles),
            notices(arguments.data, arguments.image_size),
            config,
            arguments.parts / data.name,
            arguments.out,
            execution,
        )
        train = ["nat-train", "custom", "--bundle", own_spec(arguments.out), "--out", "runs/mine"]
        print(f"next, a policy for it: {shlex.join(train)}")
