"""Models that are not ours, from a folder through environment, training, sampling and judging."""

import json
import sys
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image

import nat_env  # registers the environment
from agents.learners.config import TrainConfig
from agents.search.arguments import Arguments as Search
from agents.search.search import search
from agents.sharing.names import named_policy
from agents.training.train import Training
from eval.commands.arguments import Eval, Sample
from eval.commands.nat_eval import run as evaluate
from eval.commands.nat_sample import run as sample
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.loading import load_bundle
from nat_env.bundles.writer import save_bundle
from nat_env.frozen.conditions import Conditions, balanced_conditions
from nat_env.frozen.nat import FrozenNAT
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.rewards.trunks import load_trunk

MODELS = '''
import torch
from torch import nn
from nat_env.frozen.protocol import NATOutput


class Stripes(nn.Module):
    """Is sure that place n of condition c is code (n + c) mod 8, and of nothing without one."""

    kind = "foreign_models:Stripes"
    num_tokens, codebook_size, mask_id, feature_size = 16, 8, 99, 3

    def __init__(self, side):
        super().__init__()
        self.feature_grid = (side, side)
        self.scale = nn.Parameter(torch.tensor(50.0))

    def forward(self, ids, condition):
        codes = (torch.arange(16) + condition[:, None]) % 8
        sure = nn.functional.one_hot(codes, 8) * self.scale * (condition < 4)[:, None, None]
        known = (ids != 99).view(-1, 4, 4).to(self.scale.dtype)
        share = nn.functional.adaptive_avg_pool2d(known, self.feature_grid).flatten(1)
        return NATOutput(sure, torch.stack([share, 1 - share, torch.ones_like(share)], dim=2))

    def save(self, folder):
        return {"side": self.feature_grid[0]}

    @classmethod
    def load(cls, folder, config, conditions):
        return cls(config["side"])


class Greys:
    """A grey level for each code, two pixels wide and one high."""

    kind = "foreign_models:Greys"
    image_size, channels, grid, codebook_size = (4, 8), 1, (4, 4), 8

    def encode(self, images):
        return (images[:, 0, :, ::2].flatten(1) * 7).round().long()

    def decode(self, ids):
        return (ids.float() / 7).view(-1, 1, 4, 4).repeat_interleave(2, dim=3)

    def to(self, device):
        return self

    def save(self, folder):
        return {}

    @classmethod
    def load(cls, folder, config, conditions):
        return cls()


def light(images, conditions):
    return images.mean(dim=(1, 2, 3))
'''


@pytest.fixture(params=[4, 2], ids=["on the tokens' grid", "on a coarser grid"])
def side(request):
    """Places of the features along each side; of tokens there are 4."""
    return request.param


@pytest.fixture
def folder(tmp_path, monkeypatch, side):
    (tmp_path / "foreign_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "foreign_models", raising=False)
    import foreign_models

    save_bundle(
        tmp_path / "bundle",
        name="stripes",
        conditions=Conditions(("north", "east", "south", "west")),
        transformer=foreign_models.Stripes(side),
        tokenizer=foreign_models.Greys(),
    )
    return tmp_path / "bundle"


def stripes(condition):
    """The image that the transformer is sure of, [4, 8]."""
    codes = (np.arange(16) + condition) % 8
    return (codes / 7).reshape(4, 4).repeat(2, axis=1)


def test_gym_make_plays_an_episode(folder, side):
    env = gym.make(
        "NATDecode-v0", bundle=str(folder), num_steps=3, reward_fn="foreign_models:light"
    )
    observation, _ = env.reset(seed=0, options={"condition": 2})
    assert observation["features"].shape == (side**2 * 3,)
    nothing_known = np.tile([0.0, 1.0, 1.0], side**2)
    np.testing.assert_allclose(observation["features"], nothing_known)
    for step in range(3):
        observation, reward, terminated, _, _ = env.step(np.zeros(4, np.float32))
        assert terminated == (step == 2)
    assert reward == pytest.approx(stripes(2).mean())


def test_what_it_is_sure_of_is_decoded(folder):
    bundle = load_bundle(folder)
    conditions = balanced_conditions(8, 4)
    policy = nat_env.ScheduledPolicy(nat_env.heuristic_schedule(4))
    images = nat_env.generate(bundle, policy, conditions, 4, seed=0)
    for image, condition in zip(images, conditions.tolist(), strict=True):
        np.testing.assert_allclose(image[0], stripes(condition), atol=1e-6)


def test_training_with_a_reward_of_ones_own_needs_no_judge_and_its_policy_samples(
    folder, side, tmp_path
):
    config = TrainConfig(
        tmp_path / "run",
        bundle=str(folder),
        num_steps=2,
        budget=64,
        trajectories_per_round=16,
        reward="foreign_models:light",
        hidden_size=8,
        batch_size=32,
        eval_every=0,
        threads=1,
    )
    training = Training(config, progress=False)
    before = training.model.policy.actor.head.weight.clone()
    assert training.model.policy.actor.grid == (side, side)
    results = training.run()
    assert (results["judge"], results["history"]) == (None, [])
    assert (training.model.policy.actor.head.weight != before).any()

    _, policy = named_policy(str(config.out), load_bundle(folder), 2)
    actions = policy(torch.zeros(3, side**2, 3), torch.tensor([0, 1, 1]))
    assert actions.shape == (3, 4) and bool((actions > 0).all())
    sample(Sample(tmp_path / "pictures", str(config.out), classes=("West",), num_samples=2))
    for path in sorted((tmp_path / "pictures").iterdir()):
        assert path.name.endswith("_west.png")
        pixels = np.asarray(Image.open(path).convert("L"))
        np.testing.assert_allclose(pixels / 255, stripes(3), atol=0.003)


def test_a_discriminator_needs_no_judge_either(folder, tmp_path):
    for name in ("north", "east", "south", "west"):
        (tmp_path / "real" / name).mkdir(parents=True)
        for number in range(8):
            grey = np.full((4, 8), 30 * number, np.uint8)
            Image.fromarray(grey).save(tmp_path / "real" / name / f"{number}.png")
    config = TrainConfig(
        tmp_path / "run",
        bundle=str(folder),
        num_steps=1,
        budget=16,
        trajectories_per_round=16,
        warmup_rounds=0,
        real_folder=str(tmp_path / "real"),
        discriminator=DiscriminatorConfig(trunk="scratch", widths=(8,), batch_size=16),
        hidden_size=8,
        batch_size=16,
        eval_every=0,
        threads=1,
    )
    training = Training(config, progress=False)
    rewards = training.env.model
    before = {k: v.clone() for k, v in rewards.state_dict()["discriminator"].items()}
    training.run()
    after = rewards.state_dict()["discriminator"]
    assert any((after[name] != value).any() for name, value in before.items())


def test_a_search_for_a_schedule_takes_a_reward_of_ones_own(folder, tmp_path, monkeypatch):
    """The score is minus its mean over the samples, each condition's image being known."""
    monkeypatch.chdir(folder.parent)
    options = {"bundle": str(folder), "num_steps": 2, "num_samples": 8, "budget": 16}
    found = search(Search("cma", tmp_path / "search", objective="foreign_models:light", **options))
    light = np.mean([stripes(condition).mean() for condition in range(4)])
    assert [trial["value"] for trial in found.trials] == pytest.approx([-light] * 2)
    _, policy = named_policy(str(tmp_path / "search" / "schedule.json"), load_bundle(folder), 2)
    assert policy(torch.zeros(1, 4, 3), torch.tensor([1])).shape == (1, 4)
    for objective, message in (
        ("foreign_models:dark", "has no 'dark', allowed are Stripes, Greys, light$"),
        ("fid", r"^objective: got 'fid', allowed are .*module:name"),
        ("frechet", "^bundle: 'stripes' has no yardstick: .*save_bundle"),
    ):
        arguments = Search("autonat", tmp_path / "other", objective=objective, **options)
        with pytest.raises(ValueError, match=message):
            search(arguments)
    assert not (tmp_path / "other").exists()


def test_what_needs_a_judge_says_so_before_any_work(folder, tmp_path):
    evaluation = Eval(policies=("heuristic",), out=tmp_path / "eval", bundle=str(folder), judges=())
    training = TrainConfig(tmp_path / "run", bundle=str(folder))
    for refused in (
        partial(nat_env.NATDecodeVectorEnv, 2, str(folder)),
        partial(evaluate, evaluation),
        partial(Training, training),
    ):
        with pytest.raises(ValueError, match=r"^bundle: 'stripes' has no yardstick: .*save_bundle"):
            refused()
    assert not (tmp_path / "run").exists() and not (tmp_path / "eval").exists()
    env = nat_env.NATDecodeVectorEnv(2, str(folder), reward_fn="foreign_models:light")
    with pytest.raises(ValueError, match=r"^bundle: 'stripes' has no reals: .*real_folder"):
        nat_env.AdversarialReward(env)
    with pytest.raises(ValueError, match=r"^bundle: 'stripes' has no trunk: .*scratch"):
        load_trunk("bundle", load_bundle(folder))


def test_a_kind_that_is_not_known_is_named(folder, monkeypatch):
    import foreign_models

    given = {"name": "mine", "conditions": Conditions(("a", "b", "c", "d"))}
    given |= {"transformer": foreign_models.Stripes(4), "tokenizer": foreign_models.Greys()}
    for kind, message in (
        (
            "stripes",
            r"got Stripes of kind 'stripes', allowed are 'uvit'.* or a class's own 'module:",
        ),
        ("foreign_models:light", r"got the kind 'foreign_models:light', allowed is a class whose"),
        ("foreign_models:Greys", r"got Stripes of kind 'foreign_models:Greys', allowed are"),
        ("foreign_models:Blue", r"got 'foreign_models:Blue', but .* has no 'Blue', allowed are"),
    ):
        given["transformer"].kind = kind
        with pytest.raises(ValueError, match=rf"^transformer: {message}"):
            save_bundle(folder.parent / "other", **given)
    monkeypatch.delitem(sys.modules, "foreign_models")
    (folder.parent / "foreign_models.py").unlink()
    with pytest.raises(ValueError, match=r"transformer: .*there is no module 'foreign_models'"):
        load_bundle(folder)


def test_a_bundle_calls_no_function_that_is_no_model(folder, monkeypatch):
    """What its description names may be anything that is installed."""
    described = json.loads((folder / "bundle.json").read_text())
    for kind, message in (
        ("foreign_models:light", "allowed is a class whose `kind` is so"),
        ("pickle:Unpickler", "allowed is a class whose `kind` is so"),
        ("nat_env.models.uvit:UViT", "allowed is a class whose `kind` is so"),
        ("stripes", "allowed are 'uvit'"),
    ):
        described["transformer"]["kind"] = kind
        (folder / "bundle.json").write_text(json.dumps(described))
        with pytest.raises(ValueError, match=rf"transformer: got the kind '{kind}', {message}"):
            load_bundle(folder)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("feature_size", 4, r"gave features \(1, (16|4), 3\), allowed is \(1, (16|4), 4\)"),
        ("codebook_size", 7, r"gave logits .* allowed is \(1, 16, 7\)"),
        ("mask_id", 3, r"got mask_id = 3"),
        ("num_tokens", None, r"got num_tokens = None"),
        ("feature_grid", 16, r"got feature_grid = 16"),
    ],
)
def test_a_transformer_that_is_not_what_it_says_is_refused(folder, attribute, value, message):
    import foreign_models

    transformer = foreign_models.Stripes(load_bundle(folder).nat.feature_grid[0])
    setattr(transformer, attribute, value)
    with pytest.raises(ValueError, match=rf"^transformer: {message}"):
        FrozenNAT(transformer, 4).first_passes(torch.tensor([4]))


def test_first_passes_are_kept_for_a_bounded_number_of_conditions(folder, monkeypatch):
    monkeypatch.setattr("nat_env.frozen.nat.FIRST_PASSES_KEPT", 3)
    import foreign_models

    nat = FrozenNAT(foreign_models.Stripes(2), 4)
    seen = []
    nat.transformer.register_forward_hook(lambda _, args, __: seen.append(args[1].tolist()))
    for conditions in ([0, 1], [1, 0], [2], [0], [1]):
        logits = nat.first_passes(torch.tensor(conditions)).logits
        codes = (torch.arange(16) + torch.tensor(conditions)[:, None]) % 8
        assert torch.equal(logits.argmax(dim=2), codes)
    assert seen == [[0, 1, 4], [2], [1]]  # 0 was asked for after 1, and stayed
    assert [len(table) for table in nat._first] == [3, 3]
    rng = np.random.default_rng(0)
    for _ in range(30):  # of more than are kept, too
        conditions = torch.from_numpy(rng.integers(0, 5, rng.integers(1, 6)))
        passes = nat.first_passes(conditions)
        direct = nat.passes(torch.full((len(conditions), 16), nat.mask_id), conditions)
        for given, expected in zip(passes, direct, strict=True):
            assert torch.equal(given, expected)
        assert max(len(table) for table in nat._first) <= 5


def test_a_live_bundle_needs_no_folder(folder):
    import foreign_models

    bundle = Bundle(
        "mine",
        Conditions(("a", "b", "c", "d")),
        FrozenNAT(foreign_models.Stripes(4), 4),
        foreign_models.Greys(),
    )
    env = nat_env.NATDecodeVectorEnv(2, bundle, 1, reward_fn=foreign_models.light)
    env.reset(options={"condition": 1})
    assert env.step(np.zeros((2, 4)))[1] == pytest.approx([stripes(1).mean()] * 2)
