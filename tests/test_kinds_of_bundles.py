"""Every kind of frozen model: the same contracts, and the same commands."""

import json
import re
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from PIL import Image

import nat_env
from agents.learners.trained import LearnedPolicy
from agents.runs.checkpoint import load_policy
from nat_env.bundles.loading import load_bundle
from nat_env.bundles.reals import TensorReals
from nat_env.bundles.statistics import GaussianStatistics
from nat_env.bundles.writer import save_bundle
from nat_env.bundles.yardstick import Yardstick
from nat_env.commands.command_line import run_command
from nat_env.commands.entry import COMMANDS
from nat_env.frozen.conditions import Conditions
from nat_env.frozen.weights import seeded_weights
from nat_env.models.classifier import Classifier, ClassifierConfig, embeddings_of
from nat_env.models.maskgit_vqgan import MaskGITVQGAN, MaskGITVQGANConfig
from nat_env.models.pixels import to_float
from nat_env.models.uvit import UVIT_SIZES, UViT, UViTConfig
from nat_env.models.vq import TokenizerConfig, VQTokenizer

NUM_STEPS = 2
CLASSES = ("ant", "bee", "cat")


def tokenizer_of(grid, codebook_size):
    """Two pixels a token along each side, grey."""
    return VQTokenizer(
        TokenizerConfig(
            image_size=(2 * grid[0], 2 * grid[1]), channels=1, codebook_size=codebook_size,
            block_out_channels=(4, 8), latent_channels=4, norm_num_groups=2,
        )
    )  # fmt: skip


def save(folder, conditions, transformer, tokenizer):
    """A bundle with a judge of random weights, and random images for real ones."""
    shape = (24, tokenizer.channels, *tokenizer.image_size)
    images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1))
    reals = TensorReals(images.to(torch.uint8), torch.arange(24) % len(conditions))
    judge = Classifier(ClassifierConfig(shape[1], len(conditions), widths=(4, 4)))
    embeddings = embeddings_of(judge.eval(), to_float(reals.images))
    statistics = GaussianStatistics.from_embeddings(embeddings.double().numpy())
    save_bundle(
        folder,
        name=folder.name,
        conditions=conditions,
        transformer=transformer,
        tokenizer=tokenizer,
        yardstick=Yardstick("random-judge", judge, statistics),
        reals=reals,
    )


def small(folder, patch_size=1):
    config = UViTConfig(
        8, (4, 4), len(CLASSES), hidden_size=8, depth=3, num_heads=2, patch_size=patch_size
    )
    save(folder, Conditions(CLASSES), UViT(config), tokenizer_of((4, 4), 8))


def papers(folder):
    """S with its published sizes, for fewer classes, and MaskGIT's tokenizer for small images."""
    sizes = replace(UVIT_SIZES["S"], num_classes=len(CLASSES))
    vqgan = MaskGITVQGAN(MaskGITVQGANConfig(image_size=(16, 16), width=32, multipliers=(1,)))
    save(folder, Conditions(CLASSES), UViT(sizes), vqgan)


def text(folder):
    context, pooled = torch.randn(len(CLASSES) + 1, 5, 6), torch.randn(len(CLASSES) + 1, 4)
    conditions = Conditions(tuple(f"a photo of a {name}" for name in CLASSES), context, pooled)
    config = UViTConfig(
        8, (4, 4), 0, hidden_size=8, depth=3, num_heads=2, context_length=5, context_size=6
    )
    save(folder, conditions, UViT(config).with_conditions(conditions), tokenizer_of((4, 4), 8))


@pytest.fixture(
    scope="module", params=["small", "patches", "papers' S", "prompts", "amused", "amused coarse"]
)
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / re.sub(r"\W+", "_", request.param)
    with seeded_weights(0):
        if request.param == "small":
            small(folder)
        elif request.param == "patches":
            small(folder, patch_size=2)
        elif request.param == "papers' S":
            papers(folder)
        elif request.param == "prompts":
            text(folder)
        else:
            converted(request, folder)
    return folder


def converted(request, folder):
    """Diffusers' aMUSEd, with a judge; a coarse one has its features on a coarser grid."""
    from nat_env.convert.amused import convert_amused

    coarse = folder.name.endswith("coarse")
    source = request.getfixturevalue("make_amused")(folder.parent / "theirs", downsample=coarse)
    (folder.parent / "prompts.txt").write_text("a cat\na zebra\n")
    convert_amused(str(source), folder.parent / "plain", folder.parent / "prompts.txt")
    plain = load_bundle(folder.parent / "plain", "float32")
    save(folder, plain.conditions, plain.nat.transformer, plain.tokenizer)


@pytest.fixture
def bundle(folder):
    return load_bundle(folder, "float32")


def test_gymnasiums_checker_has_nothing_to_say(folder, recwarn):
    env = gym.make("NATDecode-v0", bundle=str(folder), num_steps=2, dtype="float32")
    check_env(env.unwrapped, skip_render_check=True)
    assert not recwarn.list


def test_a_row_is_the_single_environment_and_what_is_generated(bundle):
    conditions = [0, 1]
    vector = nat_env.NATDecodeVectorEnv(2, bundle, NUM_STEPS, autoreset_mode="Disabled")
    single = nat_env.NATDecodeEnv(bundle, NUM_STEPS)
    schedule = nat_env.heuristic_schedule(NUM_STEPS)
    played, _ = vector.reset(seed=7, options={"condition": conditions})
    alone, _ = single.reset(seed=8, options={"condition": 1})
    masked = [np.full(2, bundle.num_tokens)]
    for step in range(NUM_STEPS):
        np.testing.assert_allclose(played["features"][1], alone["features"], atol=2e-5)
        timestep = torch.full((2,), step)
        actions = vector.action_map.actions(schedule.table[timestep], timestep).numpy()
        played, rewards, *_ = vector.step(actions)
        alone, reward, *_ = single.step(actions[1])
        masked.append((vector.ids == bundle.nat.mask_id).sum(dim=1).numpy())
    assert rewards[1] == pytest.approx(reward, abs=1e-4)

    def policy(features, timestep):
        at = vector.action_map.actions(schedule.table[timestep], timestep)
        return vector.action_map.physical(at, timestep)

    ratios = [policy(None, torch.tensor([step]))[0, 0].numpy() for step in range(NUM_STEPS - 1)]
    for step, m in enumerate([*ratios, np.float32(0)]):  # the last step reveals all
        allowed = int(m * np.float32(bundle.num_tokens))
        np.testing.assert_array_equal(masked[step + 1], np.minimum(masked[step], allowed))

    images = nat_env.generate(bundle, policy, conditions, NUM_STEPS, seed=7)
    by_one = nat_env.generate(bundle, policy, conditions, NUM_STEPS, seed=7, batch_size=1)
    assert images.shape == (2, bundle.tokenizer.channels, *bundle.tokenizer.image_size)
    torch.testing.assert_close(images, bundle.tokenizer.decode(vector.ids))
    torch.testing.assert_close(images, by_one, atol=1e-4, rtol=0)


def test_guidance_is_of_the_condition(bundle):
    """Logits differ between conditions and from none; features are on the model's own grid."""
    nat = bundle.nat
    ids = torch.full((2, nat.num_tokens), nat.mask_id)
    passes = nat.passes(ids, torch.tensor([0, 1]))
    assert passes.logits.shape == (2, nat.num_tokens, nat.codebook_size)
    height, width = nat.feature_grid
    assert passes.features.shape == (2, height * width, nat.feature_size)
    assert (passes.logits[0] - passes.logits[1]).abs().max() > 1e-4
    assert (passes.logits - passes.null_logits).abs().amax(dim=(1, 2)).min() > 1e-4
    assert torch.equal(passes.null_logits[0], passes.null_logits[1])


def test_known_tokens_stay(bundle):
    nat = bundle.nat
    known = torch.arange(nat.num_tokens) % 3 == 0
    ids = torch.arange(nat.num_tokens)[None] % nat.codebook_size
    seen = []
    nat_env.generate(
        bundle,
        nat_env.ScheduledPolicy(nat_env.heuristic_schedule(2)),
        [1],
        2,
        seed=0,
        ids=ids,
        known=known[None],
        on_step=lambda record: seen.append(record.ids[0]),
    )
    unknown = int((~known).sum())
    assert [int((step == nat.mask_id).sum()) for step in seen] == [int(unknown * 0.5**0.5), 0]
    assert all(torch.equal(step[known], ids[0, known]) for step in seen)


def test_it_is_trained_searched_sampled_and_judged_by_the_commands(folder, tmp_path):
    """T is 1, where the pass on the empty canvas is all that a large model is asked for."""
    bundle = load_bundle(folder, "float32")
    common = f"--bundle {folder} --num-steps 1 --dtype float32 --threads 1"

    def command(words: str) -> None:
        name, *rest = words.split()
        run_command(name, COMMANDS[name], rest)

    command(
        f"nat-train custom {common} --reward judge --budget 16 --trajectories-per-round 8 "
        f"--num-envs 8 --batch-size 8 --hidden-size 8 --eval-every 0 --out {tmp_path}/run"
    )
    command(f"nat-search cma {common} --budget 40 --num-samples 8 --out {tmp_path}/search")
    command(
        f"nat-sample {common} --policy {tmp_path}/run --classes 1 --num-samples 2 "
        f"--out {tmp_path}/pictures"
    )
    nat_env.heuristic_schedule(1).save(tmp_path / "papers.json")
    command(
        f"nat-eval --policies heuristic {tmp_path}/papers.json {tmp_path}/run "
        f"{tmp_path}/search/schedule.json {common} --num-samples 12 --judges "
        f"--no-pictures --out {tmp_path}/eval"
    )
    trials = [json.loads(x) for x in (tmp_path / "search" / "trials.jsonl").read_text().split("\n")
              if x]  # fmt: skip
    assert [trial["images"] for trial in trials] == [8, 16, 24, 32, 40]
    pictures = sorted((tmp_path / "pictures").glob("*.png"))
    frames = np.stack([np.asarray(Image.open(p).convert("RGB")) for p in pictures])
    height, width = bundle.tokenizer.image_size
    assert frames.shape == (2, height, width, 3) and frames.std() > 0
    rows = json.loads((tmp_path / "eval" / "results.json").read_text())["rows"]
    found = [row["frechet_distance"] for row in rows]
    assert len(found) == 4 and np.isfinite(found).all()
    assert found[0] == found[1]  # of the heuristic by its name, and by its file
    trained = load_policy(tmp_path / "run", bundle)
    assert isinstance(trained, LearnedPolicy)
    assert trained.actor.head.weight.abs().max() > 0  # where it starts
