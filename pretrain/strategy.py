"""AutoNAT's training strategy: the mask-ratio distribution by greedy line search (4.3, A.2).

The models are proxies: the bundle's architecture, trained briefly under each candidate.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from nat_env.bundles.bundle import Bundle
from nat_env.bundles.judging import check_bundle_rank, frechet_of
from nat_env.frozen.nat import FrozenNAT
from nat_env.generation import generate_batches
from nat_env.models.uvit import UViT, UViTConfig
from nat_env.parallel.processes import Processes
from nat_env.policies import DecodingPolicy
from nat_env.seeds import PROXIES
from nat_env.storage.claims import claimed
from nat_env.storage.files import read_json, write_json
from pretrain.arguments import MaskRatio
from pretrain.parallel.execution import Execution
from pretrain.transformer import TransformerTraining, train_transformer


def greedy_search(
    objective: Callable[[MaskRatio], float],
    start: MaskRatio = MaskRatio(2.0, 1.0),
    step: float = 1.0,
) -> tuple[MaskRatio, float]:
    """Line searches in alpha / beta and in beta by turns, until neither finds better (4.3).

    Args:
        objective: lower is better; called once for each candidate.
        start: alpha = 2, beta = 1 has the mean of the usual arccos distribution within 0.03.
        step: of both line searches (A.2: 1). Coordinates stay above 0.

    Returns:
        The best distribution and its value.

    Raises:
        ValueError: a step or a start that is not above 0.

    Example:
        >>> greedy_search(lambda m: (m.ratio - 4) ** 2 + (m.beta - 3) ** 2)
        (MaskRatio(ratio=4.0, beta=3.0), 0.0)
    """
    if not all(0 < number < math.inf for number in (step, start.ratio, start.beta)):
        raise ValueError(f"step, start: got {step}, {start}, allowed are finite numbers > 0")
    values: dict[MaskRatio, float] = {}

    def value(candidate: MaskRatio) -> float:
        if candidate not in values:
            values[candidate] = objective(candidate)
        return values[candidate]

    best = start
    while True:
        before = best
        for name in ("ratio", "beta"):
            for direction in (step, -step):
                here = best
                while (moved := getattr(best, name) + direction) > 0:
                    candidate = replace(best, **{name: moved})
                    if value(candidate) >= value(best):
                        break
                    best = candidate
                if best != here:  # downhill this way: nothing to look for behind
                    break
        if best == before:
            return best, value(best)


class Proxies:
    """Models of a bundle's architecture, each trained briefly under a mask-ratio distribution."""

    def __init__(
        self,
        bundle: Bundle,
        ids: Tensor,
        labels: Tensor,
        training: TransformerTraining,
        folder: Path,
        seed: int = 0,
        architecture: UViTConfig | None = None,
    ) -> None:
        """Train for `bundle`.

        Args:
            bundle: tokenizer and judge.
            ids: tokens of the training images [n, N].
            labels: their classes [n].
            training: of a proxy; its mask ratio is what varies.
            folder: of the models, a sub-folder that resumes for each.
            seed: of all trainings.
            architecture: of the proxies; by default the bundle's.

        Raises:
            ValueError: no architecture, and a bundle of another transformer than U-ViT.
        """
        self.bundle, self.ids, self.labels = bundle, ids, labels
        if architecture is None:
            own = bundle.nat.transformer
            if not isinstance(own, UViT):
                raise ValueError(
                    f"bundle: got a {type(own).__name__}, allowed is a UViT: proxies are trained"
                )
            architecture = own.config
        self.architecture = architecture
        self.training, self.folder, self.seed = training, folder, seed

    def trained(self, mask_ratio: str) -> Bundle:
        """The bundle with a transformer trained under the distribution of that name.

        Raises:
            ValueError: the folder holds a model of another training, architecture or seed.
        """
        nat = self.bundle.nat
        # Another model is another bundle: nothing that is kept by fingerprint may mix them up.
        made_of = (mask_ratio, self.training, self.architecture, self.seed)
        fingerprint = f"{self.bundle.fingerprint}, {made_of}"
        fingerprint = hashlib.sha256(fingerprint.encode()).hexdigest()
        training = replace(self.training, mask_ratio=mask_ratio)
        folder = self.folder / mask_ratio.replace(", ", "_").replace("(", "_").rstrip(")")
        identity = {
            "bundle": self.bundle.fingerprint, "architecture": asdict(self.architecture),
            "training": asdict(training), "seed": self.seed,
        }  # fmt: skip
        foreign = ("transformer.safetensors",)  # of an unknown training
        with claimed(folder, "proxy.json", identity, "folder", foreign):
            transformer = train_transformer(
                self.ids, self.labels, self.architecture, training, folder, self.seed,
                Execution(Processes(device=nat.device)),
            )  # fmt: skip
        frozen = FrozenNAT(transformer, nat.null_condition, nat.device, nat.dtype)
        return replace(self.bundle, nat=frozen, fingerprint=fingerprint)


class ProxyObjective:
    """FD of a fixed policy's samples from the proxy of a mask-ratio distribution.

    Every trial is a row of `trials.json`.
    """

    def __init__(
        self,
        proxies: Proxies,
        policy: DecodingPolicy,
        num_steps: int,
        num_samples: int,
        folder: Path,
    ) -> None:
        """Compare distributions.

        Args:
            proxies: train the models.
            policy: the generation strategy, fixed.
            num_steps: T.
            num_samples: images of a trial, more than an embedding by the judge has numbers.
            folder: of the trials, which belongs to these proxies and this policy.

        Raises:
            ValueError: too few samples, or a damaged `trials.json`.
        """
        check_bundle_rank(proxies.bundle, num_samples)
        self.proxies, self.policy = proxies, policy
        self.num_steps, self.num_samples = num_steps, num_samples
        self.folder = folder
        self.trials: dict[str, float] = {}
        path = folder / "trials.json"
        if path.is_file():
            self.trials = read_json(
                path, "folder", lambda rows: {name: float(value) for name, value in rows}
            )

    def __call__(self, mask_ratio: MaskRatio) -> float:
        """The FD under the bundle's judge, of a proxy trained now or before."""
        name = mask_ratio.name
        if name not in self.trials:
            bundle = self.proxies.trained(name)
            batches = generate_batches(
                bundle,
                self.policy,
                bundle.conditions.balanced(self.num_samples),
                self.num_steps,
                PROXIES.seed_of(0, self.proxies.seed * self.num_samples),
            )
            self.trials[name] = frechet_of(bundle, (images for images, _ in batches))
            write_json(self.folder / "trials.json", list(self.trials.items()))
        return self.trials[name]
