"""InceptionV3 as a judge: a Frechet distance under it is the Frechet Inception Distance.

The weights are the published PyTorch port of TensorFlow's, a file of 95,628,359 bytes at
`WEIGHTS_URL` that this project does not ship.
"""

import pickle
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from eval.judges.inception_network import InceptionV3
from eval.judges.judge import Judge
from nat_env.storage.files import sha256

WEIGHTS_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth"
)
WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def inception_v3(
    path: Path | str, device: torch.device | str = "cpu", batch_size: int | None = None
) -> Judge:
    """Load InceptionV3 from the published weights as a judge that embeds in 2048 numbers.

    Only a distance under this judge, by name ``inception-v3``, may be called an FID, and only with
    the data set and number of samples that the standard protocol asks for.

    Args:
        path: of the file at `WEIGHTS_URL`, or of a ``.safetensors`` with the same keys. Nothing is
            downloaded here.
        device: Where the network runs.
        batch_size: Images per forward pass. By default 64, but 8 on a CPU.

    Returns:
        The judge ``inception-v3``. With a file that is not the published one byte for byte, a
        conversion or other weights, the name is ``inception-v3@`` and the first 8 digits of its
        SHA-256: different embeddings, different name.

    Raises:
        ValueError: If the file is missing, cannot be read, or its tensors are not those of the
            network, or if ``batch_size`` is below 1.
    """
    path = Path(path)
    if batch_size is None:
        batch_size = 8 if torch.device(device).type == "cpu" else 64
    weights = _read(path)
    network = InceptionV3()
    _check(path, weights, network.state_dict())
    # Not strict: the counters of batches are of training alone, and older files lack them.
    network.load_state_dict(weights, strict=False)
    digest = sha256(path)
    name = "inception-v3" if digest == WEIGHTS_SHA256 else f"inception-v3@{digest[:8]}"
    # The original Inception Score leaves the bias out.
    return Judge(name, network.to(device), batch_size, partial(network.logits, bias=False), True)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"path: {path} is no file; InceptionV3's weights are at {WEIGHTS_URL}")
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, SafetensorError) as error:
        raise ValueError(
            f"path: {path} cannot be read as weights ({error}); they are at {WEIGHTS_URL}"
        ) from error
    if not isinstance(weights, Mapping) or not all(torch.is_tensor(w) for w in weights.values()):
        raise ValueError(f"path: expected tensors by name in {path}, got {type(weights).__name__}")
    return {k: w for k, w in weights.items() if not k.endswith("num_batches_tracked")}


def _check(path: Path, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    needed = {k: w for k, w in expected.items() if not k.endswith("num_batches_tracked")}
    missing = [k for k in needed if k not in weights]
    unknown = [k for k in weights if k not in needed]
    shapes = [
        f"{k} {tuple(weights[k].shape)} for {tuple(w.shape)}"
        for k, w in needed.items()
        if k in weights and weights[k].shape != w.shape
    ]
    faults = {"missing": missing, "unknown": unknown, "of another shape": shapes}
    found = [
        f"{len(keys)} {fault} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for fault, keys in faults.items()
        if keys
    ]
    if found:
        raise ValueError(
            f"path: {path} does not hold the {len(needed)} tensors of the FID's InceptionV3: "
            f"{'; '.join(found)}; they are at {WEIGHTS_URL}"
        )
