"""A bundle of prompts from images with captions: the network's extra number, and all of it."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image

import nat_env
import pretrain.captioned.make
from nat_env.bundles.loading import load_bundle
from nat_env.bundles.statistics import GaussianStatistics
from nat_env.parallel.processes import Processes
from nat_env.text.prompts import read_prompts
from pretrain.captioned.config import CaptionedConfig
from pretrain.captioned.make import make_captioned_bundle, trained_transformer
from pretrain.captioned.matcher import MatcherTraining
from pretrain.captioned.versions import VersionsConfig, table_of, versions_of
from pretrain.data.captioned import TRAINING, UNSEEN_CONCEPT, UNSEEN_STYLE
from pretrain.loop import LoopConfig
from pretrain.parallel.execution import Execution
from pretrain.tokenizer import TokenizerTraining
from pretrain.transformer import TransformerTraining

LOOP = LoopConfig(epochs=2, batch_size=16, warmup_steps=2)
MATCHERS = MatcherTraining(LOOP)
TINY = CaptionedConfig(
    image_size=8,
    versions=VersionsConfig(count=3),
    codebook_size=12,
    tokenizer_widths=(8, 16),
    latent_channels=2,
    tokenizer=TokenizerTraining(LOOP, restart_until=0.0, rate_weight=0.01),
    hidden_size=8,
    depth=1,
    num_heads=2,
    transformer=TransformerTraining(LOOP, ema_decay=0.5),
    judge_widths=(4, 6),
    trunk_widths=(4, 5),
    aligner_widths=(4, 7),
    judge=MATCHERS,
    trunk=MATCHERS,
    aligner=MATCHERS,
    num_real=20,
)
FILES = {
    TRAINING: "captions_training.txt",
    UNSEEN_STYLE: "captions_unseen_style.txt",
    UNSEEN_CONCEPT: "captions_unseen_concept.txt",
}


@pytest.fixture
def make(data, toy_text, tmp_path):
    """Make the bundle, of the same parts each time; gives its folder."""

    def made(name="made", config=TINY, data=data, execution=None, encoder=None):
        encoder = encoder or toy_text.ToySentences(data.styles)
        work, out = tmp_path / "work", tmp_path / name
        make_captioned_bundle(data, encoder, "by us", config, work, out, execution)
        return out

    return made


def test_the_network_is_that_of_images_that_were_not_moved(data, sentences, tmp_path, monkeypatch):
    """Trained with one number more, it computes as if that were 0; at 1 it would not."""
    numbers = torch.arange(len(data.images))
    versions = versions_of(data, sentences, numbers, 8, TINY.versions, 0, torch.device("cpu"))
    ids = torch.randint(12, (len(versions.of), 16), generator=torch.Generator().manual_seed(0))
    given, train = [], pretrain.captioned.make.train_transformer

    def spy(*arguments):
        given.append((arguments, train(*arguments)))
        return given[0][1]

    monkeypatch.setattr(pretrain.captioned.make, "train_transformer", spy)
    found = trained_transformer(versions, ids, TINY, tmp_path, Execution())
    (((tokens, labels, *_, pooled), trained),) = given
    assert torch.equal(tokens, ids) and labels.tolist() == list(range(len(ids)))
    assert torch.equal(pooled[:-1, :-1], versions.pooled) and not pooled[-1].any()
    assert torch.equal(pooled[:-1, -1].bool(), versions.moved)
    assert set(pooled[:-1, -1].tolist()) == {0.0, 1.0}

    table = table_of(data, sentences)
    shown = ids[: len(table)].masked_fill(torch.rand(len(table), 16) < 0.5, 12)
    logits = found.with_context(table[:, None])(shown, torch.arange(len(table))).logits
    for number, is_same in ((0.0, True), (1.0, False)):
        wide = torch.cat([table, torch.full((len(table), 1), number).half()], dim=1)
        other = trained.with_context(wide[:, None])(shown, torch.arange(len(table))).logits
        assert torch.allclose(logits, other, atol=1e-5) == is_same
    assert not found.training and not any(p.requires_grad for p in found.parameters())


def test_a_bundle_from_beginning_to_end_and_again(
    make, data, sentences, toy_text, capsys, monkeypatch
):
    folder = make()
    said = capsys.readouterr().out
    for name in ("training", "unseen style", "unseen concept"):
        assert f"{name}: the aligner finds the caption of " in said
    bundle = load_bundle(folder, dtype="float32")
    assert bundle.name == "toys" and bundle.conditions.names == data.captions
    assert torch.equal(bundle.conditions.pooled, table_of(data, sentences))
    assert bundle.num_tokens == 16 and bundle.tokenizer.image_size == (8, 8)
    assert (folder / "NOTICE.txt").read_text() == "by us"
    lists = {split: read_prompts(folder / file) for split, file in FILES.items()}
    for split, captions in lists.items():
        numbers = (data.split == split).nonzero()[:, 0].tolist()
        assert captions == [data.captions[number] for number in numbers]
    assert sum(map(len, lists.values())) == len({*data.captions})  # each is in one of them

    # Real images: the first that were trained on, at the bundle's size.
    reals, training = bundle.require("reals"), (data.split == TRAINING).nonzero()[:, 0]
    assert torch.equal(reals.conditions, training[:20])
    means = data.images[training].float().numpy().reshape(-1, 3, 8, 2, 8, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(reals.images, means[:20], atol=0.51)
    assert torch.equal(bundle.tokenizer.encode(reals.images.float() / 255), reals.ids)
    yardstick = bundle.require("yardstick")
    with torch.no_grad():
        embeddings = yardstick.judge.embeddings(torch.from_numpy(means.round()).float() / 255)
    direct = GaussianStatistics.from_embeddings(embeddings.numpy())
    np.testing.assert_allclose(yardstick.statistics.mean, direct.mean, atol=1e-2)
    assert yardstick.statistics.count == len(training) == 50

    # What was measured is of the bundle that was written.
    aligner = bundle.require("aligner")
    unseen = (data.split == UNSEEN_CONCEPT).nonzero()[:, 0]
    small = data.images[unseen].float().numpy().reshape(-1, 3, 8, 2, 8, 2).mean(axis=(3, 5))
    nearest = aligner(torch.from_numpy(np.floor(small + 0.5)).float() / 255).argmax(dim=1)
    found = (nearest == unseen).double().mean().item()
    assert bundle.quality["real_found, unseen concept"] == pytest.approx(found)
    policy = nat_env.ScheduledPolicy(nat_env.heuristic_schedule(8))
    samples = nat_env.generate(bundle, policy, unseen, 8, seed=0)
    error = (samples.numpy() - np.floor(small + 0.5) / 255).__pow__(2).mean()
    measured = bundle.quality["sampled_mean_square, unseen concept"]
    assert measured == pytest.approx(error, rel=1e-3)
    assert bundle.training == json.loads(json.dumps(asdict(TINY)))
    with Image.open(folder / "overview.png") as picture:
        assert picture.width >= 16 * 8

    # Prompts of one's own, and those that training had, with their real images.
    asked = bundle.with_prompts(["aa eee, ink style", "a e"])
    assert nat_env.generate(asked, policy, [len(data.captions)], 8, seed=0).shape == (1, 3, 8, 8)
    some = bundle.with_prompts(lists[TRAINING], replace=True).require("reals")
    assert some.conditions.tolist() == list(range(20)) and torch.equal(some.images, reals.images)

    # The same again: nothing is trained, nothing asked of the encoder, and the files are equal.
    monkeypatch.setattr("pretrain.loop.epoch_batches", lambda *given: iter(()))
    monkeypatch.setattr(toy_text.ToySentences, "encode", None)
    again = make("again")
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    for path in files:
        assert (again / path).read_bytes() == (folder / path).read_bytes(), path


def test_judge_and_trunk_see_different_concepts_and_the_aligner_all(make, data, monkeypatch):
    seen = {}

    def note(versions, rows, config, training, work, seed, name, execution):
        seen[name] = ({int(c) for c in data.concept[versions.of[rows]]}, seed, config.widths)
        if name == "aligner":
            raise KeyboardInterrupt

    monkeypatch.setattr(pretrain.captioned.make, "train_matcher", note)
    with pytest.raises(KeyboardInterrupt):
        make()
    concepts = set(data.concept[data.split == TRAINING].tolist())
    assert seen["judge"][0] == {c for c in concepts if c % 2 == 0}
    assert seen["trunk"][0] == {c for c in concepts if c % 2 == 1}
    assert seen["aligner"][0] == concepts and not concepts & {0, 1, 2}
    assert len({seed for _, seed, _ in seen.values()}) == 3
    assert [widths for *_, widths in seen.values()] == [(4, 6), (4, 5), (4, 7)]


def test_what_cannot_be_made_is_refused_before_any_work(make, data, tmp_path, toy_text):
    several = Execution(Processes(0, 2))
    with pytest.raises(ValueError, match=r"^processes: got 2, allowed is 1: "):
        make(execution=several)
    with pytest.raises(ValueError, match=r"^batch_size: got 16, allowed are multiples of 3"):
        make(execution=Execution(passes=3))
    with pytest.raises(ValueError, match=r"^depth: got 2, allowed are odd numbers"):
        make(config=replace(TINY, depth=2))
    with pytest.raises(ValueError, match=r"^image_size: got \(7, 7\), allowed are multiples"):
        make(config=replace(TINY, image_size=7))
    with pytest.raises(ValueError, match=r"^out: got .* another folder than that of the parts"):
        make("work")
    assert not any(tmp_path.iterdir())
    (tmp_path / "others" / "trunk").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"is no bundle, but has a 'trunk'"):
        make("others")
    assert not (tmp_path / "work").exists()


def test_the_parts_of_something_else_are_refused(make, data, toy_text, tmp_path, monkeypatch):
    monkeypatch.setattr(
        pretrain.captioned.make, "_make", lambda *given: None
    )  # the folder is claimed all the same
    make()
    make()
    images = data.images.clone()
    images[0, 0, 0, 0] += 1
    other = toy_text.ToySentences(data.styles)
    other.fingerprint = "another"
    for changes in (
        {"data": replace(data, images=images)},
        {"data": replace(data, flips=~data.flips)},
        {"config": replace(TINY, seed=1)},
        {"encoder": other},
        {"execution": Execution(mixed_precision="bf16")},
    ):
        with pytest.raises(ValueError, match=r"^work: .* was made with "):
            make(**changes)
