"""The authors' policies: random weights of the published names, against the equations again."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from agents.convert.policy import convert_policy
from agents.sharing.names import chosen_bundle, chosen_num_steps, named_policy
from nat_env import NATDecodeVectorEnv, generate, load_bundle
from nat_env.bundles.writer import save_bundle
from nat_env.convert.checkpoint_file import read_state_dict
from nat_env.frozen.conditions import Conditions
from nat_env.models.kinds import KINDS

MODELS = '''
import torch
from torch import nn
from nat_env.frozen.protocol import NATOutput


class Waves(nn.Module):
    """Features on 16 x 16 places that tell the tokens; its codes are all alike."""

    kind = "waves"
    num_tokens, codebook_size, mask_id = 16, 8, 8
    feature_grid = (16, 16)

    def __init__(self, size):
        super().__init__()
        self.feature_size = size
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, ids, condition):
        total = (ids * torch.arange(1, 17)).sum(dim=1) + condition  # [R]
        waves = torch.arange(256 * self.feature_size).view(256, -1) * 0.37
        features = (total[:, None, None] + waves).sin() * self.scale
        return NATOutput(torch.zeros(len(ids), 16, 8) * self.scale, features)

    def save(self, folder):
        return {"size": self.feature_size}

    @classmethod
    def load(cls, folder, config, conditions):
        return cls(config["size"])


class Greys:
    kind = "greys-4x4"
    image_size, channels, grid, codebook_size = (4, 4), 1, (4, 4), 8

    def encode(self, images):
        return (images.flatten(1) * 7).round().long()

    def decode(self, ids):
        return (ids.float() / 7).view(-1, 1, 4, 4)

    def to(self, device):
        return self

    def save(self, folder):
        return {}

    @classmethod
    def load(cls, folder, config, conditions):
        return cls()
'''


@pytest.fixture
def bundle_of(tmp_path, monkeypatch):
    """Makes a bundle whose features have so many numbers."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "waves.py").write_text(MODELS)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.delitem(sys.modules, "waves", raising=False)
    monkeypatch.setitem(KINDS["transformer"], "waves", "waves:Waves")
    monkeypatch.setitem(KINDS["tokenizer"], "greys-4x4", "waves:Greys")
    import waves

    def make(size: int) -> str:
        folder = tmp_path / f"bundle{size}"
        save_bundle(
            folder,
            name="waves",
            conditions=Conditions(("a", "b", "c")),
            transformer=waves.Waves(size),
            tokenizer=waves.Greys(),
        )
        return str(folder)

    return make


def published(size: int, embedder: bool, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tensors of the published names and shapes; some outputs are beyond 5."""
    shapes: dict[str, tuple[int, ...]] = {}
    if embedder:
        shapes |= {"x_embedder.weight": (512, size), "x_embedder.bias": (512,)}
    shapes |= {
        "t_embedder.mlp.0.weight": (512, 256), "t_embedder.mlp.0.bias": (512,),
        "t_embedder.mlp.2.weight": (512, 512), "t_embedder.mlp.2.bias": (512,),
        "adaLN1.adaLN_modulation.1.weight": (1024, 512), "adaLN1.adaLN_modulation.1.bias": (1024,),
        "dw_conv.weight": (512, 1, 3, 3), "dw_conv.bias": (512,),
        "pw_conv.weight": (128, 512, 1, 1), "pw_conv.bias": (128,),
        "linear1.weight": (1024, 8192), "linear1.bias": (1024,),
        "adaLN2.adaLN_modulation.1.weight": (2048, 512), "adaLN2.adaLN_modulation.1.bias": (2048,),
        "linear2.weight": (512, 1024), "linear2.bias": (512,),
        "adaLN3.adaLN_modulation.1.weight": (1024, 512), "adaLN3.adaLN_modulation.1.bias": (1024,),
        "linear3.weight": (4, 512), "linear3.bias": (4,),
    }  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    found = {
        name: torch.randn(shape, generator=generator) / np.sqrt(np.prod(shape[1:]) or 1) * 0.7
        for name, shape in shapes.items()
    }
    found["linear3.weight"] *= 12
    return found


def raw_of(w, features, timestep):
    """The actor once more: features [B, 256, C], timesteps [B] -> m, tau_2, tau_1, w, raw."""
    angles = timestep[:, None] * torch.exp(-np.log(10_000) * torch.arange(128) / 128)
    time = torch.cat([angles.cos(), angles.sin()], dim=1)
    time = F.linear(time, w["t_embedder.mlp.0.weight"], w["t_embedder.mlp.0.bias"])
    time = F.linear(F.silu(time), w["t_embedder.mlp.2.weight"], w["t_embedder.mlp.2.bias"])

    def normed(x, number):
        name = f"adaLN{number}.adaLN_modulation.1"
        both = F.linear(F.silu(time), w[f"{name}.weight"], w[f"{name}.bias"])
        size = x.shape[-1]
        shift, scale = both[:, :size], both[:, size:]
        if x.ndim == 3:
            shift, scale = shift[:, None], scale[:, None]
        return F.layer_norm(x, (size,), eps=1e-6) * (1 + scale) + shift

    x = features
    if "x_embedder.weight" in w:
        x = F.linear(x, w["x_embedder.weight"], w["x_embedder.bias"])
    x = normed(x, 1).permute(0, 2, 1).reshape(len(x), 512, 16, 16)
    x = F.gelu(F.conv2d(x, w["dw_conv.weight"], w["dw_conv.bias"], 2, 1, groups=512))
    x = F.gelu(F.conv2d(x, w["pw_conv.weight"], w["pw_conv.bias"])).reshape(len(x), 8192)
    x = F.gelu(normed(F.linear(x, w["linear1.weight"], w["linear1.bias"]), 2))
    x = F.gelu(normed(F.linear(x, w["linear2.weight"], w["linear2.bias"]), 3))
    return F.linear(x, w["linear3.weight"], w["linear3.bias"]).numpy().astype(np.float64)


def activated(raw):
    """Raw m, tau_2, tau_1, w [B, 4] -> m, tau_1, tau_2, w, as decoding has them."""
    softplus = np.logaddexp(0, raw)
    m = 1 / (1 + np.exp(-raw[:, 0]))
    return np.stack([m, softplus[:, 2], softplus[:, 1], softplus[:, 3]], axis=1)


def adanat_checkpoint(actor, **options):
    """As AdaNAT's train.py writes it: other networks beside, and the options of the call."""
    model = {f"policy_old.actor.{name}": value for name, value in actor.items()}
    model |= {f"policy.actor.{name}": torch.zeros_like(value) for name, value in actor.items()}
    args = argparse.Namespace(betas=(0.9, 0.999), **options)
    return {"model": model, "args": args, "global_step": 7, "optimizer": {"state": {}}}


def features_of(size, count=3, seed=5):
    """That half precision holds, as the policies see them."""
    found = torch.randn(count, 256, size, generator=torch.Generator().manual_seed(seed))
    return found.half().float()


@pytest.mark.parametrize(("size", "embedder"), [(512, False), (768, True)])
def test_adanats_means_are_those_of_the_equations(bundle_of, tmp_path, size, embedder):
    weights = published(size, embedder)
    assert len(weights) == 20 + 2 * embedder
    torch.save(adanat_checkpoint(weights, heu=0), tmp_path / "policy.pth")
    out = tmp_path / "runs" / "adanat"
    convert_policy(tmp_path / "policy.pth", bundle_of(size), 8, out)
    assert chosen_num_steps([str(out)], None) == 8
    bundle = load_bundle(chosen_bundle([str(out)], None))
    _, policy = named_policy(str(out), bundle, 8)
    features, timestep = features_of(size), torch.tensor([0, 3, 7])
    raw = raw_of(weights, features, timestep)
    assert np.abs(raw).max() > 6  # beyond the box of other runs
    np.testing.assert_allclose(policy(features, timestep), activated(raw), rtol=2e-4, atol=1e-5)


def test_adagens_average_is_that_of_a_loop(bundle_of, tmp_path):
    """With an embedder where AdaNAT's has none, and the residual that their code smooths back."""
    num_steps, alpha, size = 4, 0.8, 512
    weights = published(size, embedder=True)
    weights["linear3.weight"] /= 6
    torch.save(weights, tmp_path / "policy.pth")
    out = tmp_path / "run"
    convert_policy(
        tmp_path / "policy.pth", bundle_of(size), num_steps, out, "authors", action_smoothing=alpha
    )
    bundle = load_bundle(bundle_of(size))
    _, policy = named_policy(str(out), bundle, num_steps)

    rows = []  # the heuristic before its activations: m, tau_2, tau_1, w
    for t in range(num_steps):
        rho = (t + 1 - 1e-3) / num_steps
        m = np.cos(np.pi * rho / 2)
        others = np.array([1 - rho, 1.0, (t + 1e-3) / num_steps])
        rows.append([np.log(m / (1 - m)), *np.log(np.expm1(others))])
    heuristic = np.array(rows)
    residual = heuristic.copy()
    residual[1:] = (heuristic[1:] - alpha * heuristic[:-1]) / (1 - alpha)

    average = None
    for t in range(num_steps):
        features, timestep = features_of(size, seed=t), torch.full((3,), t)
        before = raw_of(weights, features, timestep) + residual[t]
        average = before if average is None else alpha * average + (1 - alpha) * before
        found = policy(features, timestep)
        np.testing.assert_allclose(found, activated(average), rtol=2e-4, atol=1e-5)
    again = policy(features_of(size, seed=0), torch.zeros(3, dtype=torch.int64))  # forgotten
    first = raw_of(weights, features_of(size, seed=0), torch.zeros(3)) + residual[0]
    np.testing.assert_allclose(again, activated(first), rtol=2e-4, atol=1e-5)


def test_a_converted_policy_decodes(bundle_of, tmp_path):
    weights = published(512, embedder=False)
    weights["linear3.bias"][0] += 6.0  # of m: not all is revealed at once
    torch.save(weights, tmp_path / "policy.pth")
    convert_policy(tmp_path / "policy.pth", bundle_of(512), 3, tmp_path / "run")
    bundle = load_bundle(bundle_of(512), "float32")
    _, policy = named_policy(str(tmp_path / "run"), bundle, 3)
    records = []
    generate(bundle, policy, [0, 2], 3, seed=1, on_step=records.append)
    ids = torch.full((2, 16), 8)
    for record in records:
        features = bundle.nat.transformer(ids, torch.tensor([0, 2])).features
        raw = raw_of(weights, features.detach().half().float(), torch.full((2,), record.timestep))
        assert record.passed.all()
        np.testing.assert_allclose(record.actions, activated(raw), rtol=2e-4, atol=1e-5)
        ids = record.ids
    env = NATDecodeVectorEnv(
        2,
        bundle,
        3,
        aligned=True,
        reward_fn=lambda images, conditions: images[:, 0, 0, 0],
        raw_scale=2.0**20,
    )
    env.reset(seed=1, options={"condition": np.array([0, 2])})
    for record in records:
        actions = env.action_map.actions(record.actions, env.timesteps)
        *_, info = env.step(actions.numpy())
        np.testing.assert_allclose(info["action"], record.actions, rtol=1e-3, atol=1e-5)
    assert env.final_images is not None
    assert torch.equal(env.final_images, bundle.tokenizer.decode(records[-1].ids))


def without(name):
    return lambda actor: {n: v for n, v in actor.items() if n != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("dw_conv.bias"), r"lacks 1: dw_conv\.bias$"),
        (lambda a: a | {"linear4.bias": torch.zeros(2)}, r"has beside them 1: linear4\.bias$"),
        (
            lambda a: a | {"linear3.weight": torch.zeros(1, 512), "linear3.bias": torch.zeros(1)},
            r"in another shape 2: linear3\.weight \(1, 512\) instead of \(4, 512\), linear3\.bias",
        ),
        (lambda a: a | {"linear2.bias": "text"}, r"lacks 1: linear2\.bias"),
        (without("x_embedder.weight"), r"lacks 1: x_embedder\.weight$"),
        (lambda a: {}, r"lacks 20: t_embedder"),
    ],
)
def test_another_network_is_refused_by_the_names_of_its_tensors(
    bundle_of, tmp_path, change, message
):
    torch.save(change(published(512, embedder=True)), tmp_path / "policy.pth")
    folder = bundle_of(512)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(
        ValueError, match=rf"^file: .*policy\.pth' does not hold .* AdaGen's policy.*{message}"
    ):
        convert_policy(tmp_path / "policy.pth", folder, 4, tmp_path / "run")
    assert sorted(tmp_path.iterdir()) == before


def test_what_does_not_fit_is_refused_before_anything_is_written(bundle_of, tmp_path):
    file, out = tmp_path / "policy.pth", tmp_path / "run"
    torch.save(adanat_checkpoint(published(768, True), heu=1), file)
    small, fitting = bundle_of(512), bundle_of(768)
    with pytest.raises(ValueError, match=r"^bundle: 'waves' has features of 512 .* for 768"):
        convert_policy(file, small, 4, out, "authors")
    with pytest.raises(ValueError, match=r"^bundle: 'digits' has features of 64 .*\(4, 4\)"):
        convert_policy(file, "digits", 4, out, "authors")
    with pytest.raises(ValueError, match=r"^residual: got None, allowed is 'authors'.*--heu 1"):
        convert_policy(file, fitting, 4, out)
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    with pytest.raises(ValueError, match=r"^out: got .* a new or empty folder"):
        convert_policy(file, fitting, 4, out, "authors")
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_an_error_on_the_way_leaves_nothing(bundle_of, tmp_path, monkeypatch):
    torch.save(published(512, False), tmp_path / "policy.pth")
    folder = bundle_of(512)
    before = sorted(tmp_path.iterdir())

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agents.convert.policy.save_policy", full)
    with pytest.raises(OSError, match=r"cannot write '.*run' .*make room"):
        convert_policy(tmp_path / "policy.pth", folder, 4, tmp_path / "run")
    assert sorted(tmp_path.iterdir()) == before


class Mischief:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_no_code_of_a_file_is_run(tmp_path):
    content = adanat_checkpoint(published(512, False)) | {"more": Mischief(tmp_path / "made")}
    torch.save(content, tmp_path / "policy.pth")
    with pytest.raises(ValueError, match=r"^file: .*policy\.pth' holds objects of .*mkdir"):
        convert_policy(tmp_path / "policy.pth", "digits", 4, tmp_path / "run")
    assert not (tmp_path / "made").exists() and not (tmp_path / "run").exists()


def test_half_a_download_and_no_file_are_refused(tmp_path):
    path = tmp_path / "policy.pth"
    for _ in range(2):  # not there; then cut off
        with pytest.raises(ValueError, match=r"^file: .*policy\.pth' (cannot be read|is damaged)"):
            read_state_dict(path, "file")
        torch.save(published(512, False), path)
        path.write_bytes(path.read_bytes()[:1_000_000])
