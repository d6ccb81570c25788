"""The README.md of a shared policy: what the hub calls a model card."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.learners.algorithms import algorithm_of
from agents.learners.config import TrainConfig
from agents.reports.quantities import PICTURE, quantities_table
from agents.reports.report import evaluation_command
from agents.runs.repeat import training_command
from nat_env.bundles.loading import shipped_bundles
from nat_env.commands.own_code import is_own


def model_card(
    config: TrainConfig,
    fingerprint: str,
    decided: Sequence[str],
    about: Mapping[str, Any],
    spec: str,
    licence: str,
) -> str:
    """Markdown under a YAML header: what the policy is for, how good it is, how to load it.

    Args:
        config: of its training, with the bundle's bare name.
        fingerprint: of its bundle.
        decided: names of the quantities that it decides.
        about: what is known about it, as `agents.runs.checkpoint.load_about` gives.
        spec: names the shared policy on a command line.
        licence: an identifier of the hub's, such as `mit`.
    """
    bundle = config.bundle
    needed = (
        ""
        if bundle in shipped_bundles()
        else " Its folder is not part of the library, and has to be in the working directory, as "
        f"`{bundle}`."
    )
    modules = sorted(name for name in config.reward_names if is_own(name))
    needs = (
        f"\nThe reward is code of the author's own, `{'`, `'.join(modules)}`, which only this "
        "command needs, not the policy.\n"
        if modules
        else ""
    )
    if is_own(config.algo):
        needs += (
            f"\nThe learner is code of the author's own, `{config.algo}`. This command and the "
            "policy need its module, installed or in the working directory.\n"
        )
    chosen = ", ".join(name.replace("_", " ") for name in decided)
    fits = (
        f"It fits the bundle with fingerprint `{fingerprint}` only."
        if config.observation == "features"
        else "It sees confidences, and fits any bundle of as many tokens on the same grid; it was "
        f"trained on the one with fingerprint `{fingerprint}`."
    )
    again = training_command(replace(config, out=Path("runs") / config.out.name))
    evaluate = evaluation_command(config, spec, "runs/eval")
    return f"""---
library_name: nat-env
license: {licence}
tags:
- reinforcement-learning
- image-generation
- masked-image-transformer
- adanat
---

# A decoding policy for the bundle `{bundle}`, T = {config.num_steps}

Chooses for every sample and decoding step {chosen} of a frozen masked image transformer. \
Learner `{config.algo}` \
({algorithm_of(config).about}), reward `{config.reward}`. {fits}{needed}

## Results

| round | trajectories | FD ({about["judge"]}, N = {about["num_samples"]}) |
| ---: | ---: | ---: |
| {about["round"]} | {about["trajectories"]} | {about["frechet_distance"]:.2f} |

FD is the Frechet distance to real images under the judge named, lower is better; it is no FID. \
The training chose its best policy by it, so that other samples score a little worse.

## What it does

Mean ± standard deviation over samples; the last step reveals all.

{quantities_table(about["actions"])}

![the same, beside the heuristic schedule]({PICTURE})

## Use

```python
import torch
from agents.sharing.hub import load_shared_policy
from nat_env import generate, load_bundle

bundle = load_bundle({config.bundle!r})
policy = load_shared_policy({spec!r}, bundle)
conditions = torch.arange(8) % len(bundle.conditions)
images = generate(bundle, policy, conditions, num_steps={config.num_steps}, seed=0)
```

    nat-sample --policy {shlex.quote(spec)} --out grid.png
    {shlex.join(evaluate)}

## Training

    {shlex.join(again)}
{needs}
```json
{json.dumps(config.as_json(), indent=2)}
```
"""
