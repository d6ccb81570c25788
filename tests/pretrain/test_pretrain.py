"""Making a bundle's parts: distributions, resumable training, loss, network."""

import errno
import itertools
import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.optim.swa_utils import AveragedModel

import pretrain.data.fashion
import pretrain.loop
import pretrain.make
import pretrain.transformer
from nat_env.models.classifier import ClassifierConfig
from nat_env.models.uvit import UViT, UViTConfig
from nat_env.models.vq import TokenizerConfig
from nat_env.storage.state import load_state, save_state
from pretrain.classifier import ClassifierTraining, accuracy, train_classifier
from pretrain.config import PRESETS
from pretrain.data.digits import digits
from pretrain.loop import LoopConfig, epoch_batches, fit, learning_rate_at
from pretrain.make import make_bundle
from pretrain.tokenizer import TokenizerTraining, train_tokenizer
from pretrain.transformer import (
    Hidden,
    MaskedTokens,
    TransformerTraining,
    masked_token_loss,
    random_masks,
    sample_mask_ratio,
    train_transformer,
    warmed_up_average,
)

TINY = UViTConfig(
    codebook_size=7, grid=(2, 3), num_classes=3, hidden_size=8, depth=3, num_heads=2, dropout=0.0
)


def tiny_uvit(seed=0, **changes):
    """Random weights of a size at which every part matters."""
    torch.manual_seed(seed)
    model = UViT(UViTConfig(**(vars(TINY) | changes)))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


# Mask ratios


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("arccos", None),
        ("beta(12, 3)", stats.beta(12, 3)),
        ("beta(1,1)", stats.beta(1, 1)),
        ("beta(0.5, 2.5)", stats.beta(0.5, 2.5)),
    ],
)
def test_mask_ratio_distributions(name, law):
    torch.manual_seed(0)
    ratios = sample_mask_ratio(name, 50_000).double().numpy()
    assert ratios.shape == (50_000,)
    assert (ratios > 0).all()
    assert (ratios <= 1).all()
    if law is None:  # density 2 / (pi sqrt(1 - r^2))
        mean, variance = 2 / math.pi, 0.5 - 4 / math.pi**2
        distribution = lambda r: 2 / math.pi * np.arcsin(r)  # noqa: E731
    else:
        mean, variance = law.mean(), law.var()
        distribution = law.cdf
    error = math.sqrt(variance / 50_000)
    assert abs(ratios.mean() - mean) < 5 * error
    assert abs(ratios.var() - variance) < 0.03 * variance
    assert stats.kstest(ratios, distribution).pvalue > 1e-4


def test_fixed_mask_ratio():
    assert sample_mask_ratio("fixed(1)", 3).tolist() == [1.0] * 3
    assert sample_mask_ratio("fixed(0.25)", 2).tolist() == [0.25] * 2


@pytest.mark.parametrize(
    "name",
    [
        "",
        "cosine",
        "arccos()",
        "beta(12)",
        "beta(0, 1)",
        "beta(1, 0)",
        "beta(-1, 2)",
        "beta(1, 2, 3)",
        "beta(1..2, 3)",
        "fixed(0)",
        "fixed(1.01)",
        "fixed(-0.5)",
        "fixed()",
        "fixed(0.1.2)",
        "fixed(nan)",
        "fixed(e-05)",
        "beta(1, 2e)",
        "beta(1e999, 1)",
    ],
)
def test_unknown_mask_ratios_are_refused(name):
    with pytest.raises(ValueError, match=r"^mask_ratio: got "):
        sample_mask_ratio(name, 4)


def test_masks_have_exact_counts():
    torch.manual_seed(0)
    ratios = torch.cat([torch.tensor([1e-6, 0.03, 0.5, 0.999, 1.0]), torch.rand(500)])
    masks = random_masks(ratios, 17)
    assert masks.shape == (505, 17)
    assert masks.dtype == torch.bool
    expected = np.maximum(1, np.round(17 * ratios.numpy())).astype(int)
    assert masks.sum(dim=1).tolist() == expected.tolist()
    assert expected[:5].tolist() == [1, 1, 8, 17, 17]


def test_every_position_is_as_likely_to_be_masked():
    torch.manual_seed(1)
    masks = random_masks(torch.full((20_000,), 0.3), 10)
    assert stats.chisquare(masks.sum(dim=0).numpy()).pvalue > 1e-4
    together = (masks[:, 0] & masks[:, 1]).float().mean()
    assert together == pytest.approx(3 / 10 * 2 / 9, abs=0.006)  # drawn without replacement


# The loop


def test_learning_rate_by_hand():
    for step, factor in [
        (0, 0.25),
        (1, 0.5),
        (3, 1.0),
        (4, 1.0),
        (6, 0.5 * (1 + math.cos(math.pi / 4))),
        (8, 0.5),
        (10, 0.5 * (1 - math.cos(math.pi / 4))),
        (12, 0.0),
    ]:
        assert learning_rate_at(step, 12, 4) == pytest.approx(factor, abs=1e-12)
    assert learning_rate_at(0, 10, 0) == 1.0
    assert [learning_rate_at(s, 2, 4) for s in range(2)] == [0.25, 0.5]


def take(batches, count):
    return [next(batches).tolist() for _ in range(count)]


def test_every_epoch_is_a_permutation_of_its_own():
    batches = take(epoch_batches(23, 5, seed=3, step=0), 12)  # 4 a round, 3 images left out
    assert all(len(batch) == 5 for batch in batches)
    epochs = [[i for batch in batches[first : first + 4] for i in batch] for first in (0, 4, 8)]
    for epoch in epochs:
        assert len(set(epoch)) == 20
        assert set(epoch) <= set(range(23))
    assert len({str(epoch) for epoch in epochs}) == 3
    assert take(epoch_batches(23, 5, seed=4, step=0), 4) != batches[:4]


@pytest.mark.parametrize("step", [1, 3, 4, 5, 8, 11])
def test_batches_go_on_from_any_step(step):
    whole = take(epoch_batches(23, 5, seed=3, step=0), 16)
    assert take(epoch_batches(23, 5, seed=3, step=step), 16 - step) == whole[step:]


def test_batches_larger_than_the_data_are_refused():
    with pytest.raises(ValueError, match=r"^batch_size: got 6, .* 5"):
        next(epoch_batches(5, 6, 0, 0))


class Stop(KeyboardInterrupt):
    """What Ctrl-C raises."""


class TinyTraining:
    """A linear model on noisy targets; keeps what every update saw, and may stop in the middle."""

    config = LoopConfig(
        epochs=2.5, batch_size=4, learning_rate=0.1, warmup_steps=3, checkpoint_seconds=-1
    )

    def __init__(self, folder, init_seed=0, stop_in=None):
        torch.manual_seed(init_seed)
        self.folder, self.stop_in = folder, stop_in
        self.model = nn.Linear(3, 1)
        self.optimizer = torch.optim.Adam(self.model.parameters(), self.config.learning_rate)
        self.inputs = torch.randn(18, 3, generator=torch.Generator().manual_seed(1))
        self.seen = []

    def update(self, step, total_steps, indices):
        noise = torch.randn(len(indices), 1)
        rate = self.optimizer.param_groups[0]["lr"]
        self.seen.append((step, total_steps, indices.tolist(), noise.tolist(), rate))
        loss = (self.model(self.inputs[indices]) - noise).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if step == self.stop_in:
            raise Stop
        return {"loss": loss}

    def run(self, config=None, num_samples=18, seed=7, **options):
        parts = {"model": self.model, "optimizer": self.optimizer}
        asked = config or self.config
        fit("tiny", self.folder, asked, num_samples, seed, parts, self.update, options=options)
        return self


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 8}, "seed = 7, now 8"),
        ({"num_samples": 17}, "num_samples = 18, now 17"),
        ({"mask_ratio": "beta(12, 3)"}, r"options.mask_ratio = 'arccos', now 'beta\(12, 3\)'"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, changes, message):
    TinyTraining(tmp_path).run(mask_ratio="arccos")
    with pytest.raises(ValueError, match=f"^folder: .*tiny.* was made with {message} is asked for"):
        TinyTraining(tmp_path).run(**{"mask_ratio": "arccos"} | changes)
    assert TinyTraining(tmp_path).run(mask_ratio="arccos").seen == []


def test_the_loop_gives_every_update_what_it_should(tmp_path):
    training = TinyTraining(tmp_path).run()
    assert [s[0] for s in training.seen] == list(range(10))  # 2.5 rounds of 4 batches
    assert {s[1] for s in training.seen} == {10}
    assert [s[2] for s in training.seen] == take(epoch_batches(18, 4, 7, 0), 10)
    rates = [0.1 * learning_rate_at(step, 10, 3) for step in range(10)]
    assert [s[4] for s in training.seen] == pytest.approx(rates)
    assert len({str(s[3]) for s in training.seen}) == 10  # fresh noise every time
    events = EventAccumulator(str(tmp_path / "tensorboard" / "tiny")).Reload()
    assert [e.step for e in events.Scalars("tiny/loss")] == [10]


@pytest.mark.parametrize("stop_in", [0, 1, 4, 7, 9])
def test_an_interrupted_training_resumes_as_if_never_stopped(tmp_path, stop_in):
    whole = TinyTraining(tmp_path / "whole").run()
    broken = TinyTraining(tmp_path / "broken", stop_in=stop_in)
    with pytest.raises(Stop):
        broken.run()
    # Nothing was stored before the first step: then the same start is needed.
    resumed = TinyTraining(tmp_path / "broken", init_seed=99 if stop_in else 0).run()
    assert resumed.seen == whole.seen[stop_in:]
    for left, right in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(left, right)


def test_two_interruptions(tmp_path):
    whole = TinyTraining(tmp_path / "whole").run()
    for stop_in in (3, 6):
        with pytest.raises(Stop):
            TinyTraining(tmp_path / "broken", init_seed=stop_in * 0, stop_in=stop_in).run()
    resumed = TinyTraining(tmp_path / "broken", init_seed=5).run()
    assert torch.equal(resumed.model.weight, whole.model.weight)


@pytest.mark.parametrize("full_at", [2, 9])
def test_a_disk_that_fills_up_is_named_and_the_same_call_goes_on(tmp_path, monkeypatch, full_at):
    whole = TinyTraining(tmp_path / "whole").run()
    saved = []

    def save_on_a_full_disk(path, state):
        saved.append(path)
        if len(saved) == full_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        save_state(path, state)

    monkeypatch.setattr(pretrain.loop, "save_state", save_on_a_full_disk)
    with pytest.raises(OSError, match=r"^cannot write '.*tiny' \(No space left .*; make room on"):
        TinyTraining(tmp_path / "broken").run()
    monkeypatch.undo()
    resumed = TinyTraining(tmp_path / "broken", init_seed=5).run()
    assert torch.equal(resumed.model.weight, whole.model.weight)
    assert len(resumed.seen) == 10 - (full_at - 1)


def test_a_finished_training_is_not_repeated(tmp_path):
    config = LoopConfig(2.5, 4, 0.1, 3)  # the last state is stored without waiting
    first = TinyTraining(tmp_path).run(config)
    again = TinyTraining(tmp_path, init_seed=3).run(config)
    assert again.seen == []
    assert torch.equal(again.model.weight, first.model.weight)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    TinyTraining(tmp_path).run()
    path = tmp_path / "tiny.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(ValueError, match=r"^path: .*tiny.safetensors"):
        TinyTraining(tmp_path).run()
    path.write_bytes(whole)
    state = load_state(path)
    del state["optimizer_schedule"]  # as of a version that kept none
    save_state(path, state)
    with pytest.raises(ValueError, match=r"^path: .*tiny.safetensors.* another version"):
        TinyTraining(tmp_path).run()


# The trainings themselves


def small_loop(epochs):
    return LoopConfig(epochs, batch_size=8, learning_rate=3e-3, checkpoint_seconds=-1)


def training_data():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (24, 1, 4, 4), generator=generator).byte()
    return images, torch.randint(3, (24,), generator=generator)


def run_transformer(folder):
    _, labels = training_data()
    ids = torch.randint(7, (24, 6), generator=torch.Generator().manual_seed(1))
    training = TransformerTraining(loop=small_loop(3), ema_decay=0.4)
    config = UViTConfig(**(vars(TINY) | {"dropout": 0.1}))
    return train_transformer(ids, labels, config, training, folder, seed=5)


def run_judge(folder):
    training = ClassifierTraining(loop=small_loop(3))
    return train_classifier(
        *training_data(), ClassifierConfig(1, 3, (4, 8)), training, folder, 5, "judge"
    )


def run_tokenizer(folder):
    config = TokenizerConfig(
        (4, 4), 1, 40, block_out_channels=(4, 8), latent_channels=2, norm_num_groups=2
    )
    training = TokenizerTraining(loop=small_loop(3), restart_every=3)
    return train_tokenizer(training_data()[0], config, training, folder, seed=5).vq


@pytest.mark.parametrize("run", [run_transformer, run_judge, run_tokenizer])
def test_every_part_resumes_as_if_never_stopped(tmp_path, monkeypatch, run):
    whole = run(tmp_path / "whole")
    assert not whole.training
    assert not any(p.requires_grad for p in whole.parameters())

    def four_batches(*arguments):
        yield from itertools.islice(epoch_batches(*arguments), 4)
        raise Stop

    monkeypatch.setattr(pretrain.loop, "epoch_batches", four_batches)
    with pytest.raises(Stop):
        run(tmp_path / "broken")
    assert len(list((tmp_path / "broken").glob("*.safetensors"))) == 1
    monkeypatch.undo()
    torch.manual_seed(99)
    resumed = run(tmp_path / "broken")
    state = whole.state_dict()
    assert resumed.state_dict().keys() == state.keys()
    for key, value in resumed.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_moving_average_is_warmed_up(tmp_path, monkeypatch):
    """(1 + n) / (10 + n), up to the decay asked for; what is given is the average."""
    models = []
    original = AveragedModel.update_parameters

    def spy(average, model):
        original(average, model)
        models.append([p.detach().double() for p in model.parameters()])

    monkeypatch.setattr(AveragedModel, "update_parameters", spy)
    average = run_transformer(tmp_path)
    decays = [0.0, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 0.4, 0.4, 0.4, 0.4]
    values = models[0]
    for decay, model in zip(decays, models, strict=True):
        values = [decay * v + (1 - decay) * m for v, m in zip(values, model, strict=True)]
    for value, parameter in zip(values, average.parameters(), strict=True):
        np.testing.assert_allclose(parameter, value, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(p, m) for p, m in zip(average.parameters(), models[-1], strict=True))


def test_moving_average_leaves_the_model_and_takes_its_buffers():
    model = nn.BatchNorm1d(3)
    average = warmed_up_average(model, 0.9)
    for _ in range(3):
        model(torch.randn(5, 3))
        nn.init.normal_(model.weight)
        kept = {key: value.clone() for key, value in model.state_dict().items()}
        average.update_parameters(model)
        assert all(torch.equal(kept[key], value) for key, value in model.state_dict().items())
    for ours, its in zip(average.module.buffers(), model.buffers(), strict=True):
        assert torch.equal(ours, its)


def test_transformer_learns_what_depends_on_the_label(tmp_path):
    """All tokens of an image equal its label: a wholly masked canvas tells it from the label."""
    labels = torch.arange(48) % 3
    ids = labels[:, None].repeat(1, 6)
    training = TransformerTraining(
        loop=LoopConfig(40, 16, 1e-2, 10), label_smoothing=0.0, ema_decay=0.9
    )
    model = train_transformer(ids, labels, TINY, training, tmp_path, seed=0)
    canvas = torch.full((3, 6), model.mask_id)
    predicted = model(canvas, torch.arange(3)).logits
    assert torch.equal(predicted.argmax(dim=2), torch.arange(3)[:, None].expand(3, 6))


def test_an_unknown_mask_ratio_is_refused_before_any_work(tmp_path):
    training = TransformerTraining(mask_ratio="cosine")
    with pytest.raises(ValueError, match=r"^mask_ratio: "):
        train_transformer(torch.zeros(9, 6), torch.zeros(9), TINY, training, tmp_path / "x", 0)
    assert not (tmp_path / "x").exists()


def test_judge_learns_and_is_measured(tmp_path):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    images = torch.randint(60, (60, 1, 4, 4), generator=generator) + 90 * labels.view(-1, 1, 1, 1)
    images = images.clamp_max(255).byte()
    training = ClassifierTraining(loop=LoopConfig(20, 15, 1e-2, 5))
    judge = train_classifier(
        images, labels, ClassifierConfig(1, 3, (4, 8)), training, tmp_path, 0, "judge"
    )
    assert accuracy(judge, images, labels) > 0.95
    wrong = labels.clone()
    right = (judge(images.float() / 255).argmax(1) == labels).sum().item()
    wrong[:15] = (wrong[:15] + 1) % 3
    found = (judge(images.float() / 255).argmax(1) == wrong).sum().item()
    assert found < right
    assert accuracy(judge, images, wrong, batch_size=7) == pytest.approx(found / 60)


# The loss


def cross_entropy(logits, targets, smoothing):
    """Mean over rows, in numpy: the target gets 1 - e, and all K classes share e."""
    logits = logits.astype(np.float64)
    log_p = logits - special.logsumexp(logits, axis=1, keepdims=True)
    on_target = log_p[np.arange(len(targets)), targets]
    return -((1 - smoothing) * on_target + smoothing * log_p.mean(axis=1)).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("mask_ratio", ["arccos", "fixed(0.5)", "fixed(1)"])
def test_loss_is_the_cross_entropy_at_masked_tokens(monkeypatch, smoothing, mask_ratio):
    model = tiny_uvit()
    seen = []
    original = model.features
    monkeypatch.setattr(
        model,
        "features",
        lambda ids, condition: seen.append((ids, condition)) or original(ids, condition),
    )
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(7, (40, 6), generator=generator)
    labels = torch.randint(3, (40,), generator=generator)
    training = TransformerTraining(
        mask_ratio=mask_ratio, label_dropout=0.3, label_smoothing=smoothing
    )
    torch.manual_seed(3)
    hidden = Hidden.drawn(training, 40, 6)
    loss = masked_token_loss(MaskedTokens(model), model, ids, labels, hidden, 3, smoothing)
    ((shown, condition),) = seen
    masked = shown == model.mask_id
    assert torch.equal(shown[~masked], ids[~masked])
    counts = masked.sum(dim=1)
    if mask_ratio == "arccos":
        assert counts.min() >= 1
        assert len(counts.unique()) > 3
    else:
        assert (counts == (3 if mask_ratio == "fixed(0.5)" else 6)).all()
    dropped = condition == 3
    assert torch.equal(condition[~dropped], labels[~dropped])
    assert 4 <= dropped.sum() <= 20
    logits = model(shown, condition).logits.detach()[masked].numpy()
    assert loss.item() == pytest.approx(
        cross_entropy(logits, ids[masked].numpy(), smoothing), rel=1e-5
    )


def test_label_dropout_has_its_share(monkeypatch):
    model = tiny_uvit()
    labels = torch.randint(3, (3000,), generator=torch.Generator().manual_seed(4))
    for share in (0.0, 0.1, 1.0):
        conditions = []
        monkeypatch.setattr(
            model,
            "features",
            lambda ids, c, kept=conditions: kept.append(c) or torch.zeros(3000, 6, 8),
        )
        torch.manual_seed(5)
        hidden = Hidden.drawn(TransformerTraining(label_dropout=share), 3000, 6)
        ids = torch.zeros(3000, 6).long()
        masked_token_loss(MaskedTokens(model), model, ids, labels, hidden, 3, 0.1)
        error = 5 * math.sqrt(share * (1 - share) / 3000)
        assert abs((conditions[0] == 3).float().mean().item() - share) <= error


def test_labels_of_prompts_are_rows_of_their_table(tmp_path, monkeypatch):
    """The first batch's loss, row by row in numpy: each with its label's vector, or the last."""

    def large(module):  # so that every part matters
        for parameter in module.parameters(recurse=False):
            nn.init.normal_(parameter, std=0.5)

    monkeypatch.setattr("nat_env.models.uvit._initialise", large)
    prompts = {"num_classes": 0, "context_length": 1, "context_size": 3}
    config = UViTConfig(**(vars(TINY) | prompts))
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(7, (16, 6), generator=generator)
    labels = torch.randint(5, (16,), generator=generator)
    pooled = torch.randn(6, 3, generator=generator).half()
    training = TransformerTraining(LoopConfig(1, 16, 1e-3, 1), label_dropout=0.3)
    train_transformer(ids, labels, config, training, tmp_path, 4, pooled=pooled)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "transformer")).Reload()
    (loss,) = events.Scalars("transformer/loss")

    torch.manual_seed(4)
    network = UViT(config)
    own = next(epoch_batches(16, 16, 4, 0))
    torch.manual_seed(4 * 1_000_003)  # as before the first update
    hidden = Hidden.drawn(training, 16, 6)
    assert 0 < hidden.dropped.sum() < 16
    losses = []
    for row, number in enumerate(own.tolist()):
        vector = pooled[5 if hidden.dropped[row] else labels[number]].double().numpy()
        masked = hidden.masked[row].numpy()
        shown = np.where(masked, 7, ids[number].numpy())
        _, logits = uvit_in_numpy(network, shown, vector)
        targets = ids[number].numpy()[masked]
        losses += [cross_entropy(logits[[n]], targets[[i]], 0.1)
                   for i, n in enumerate(np.flatnonzero(masked))]  # fmt: skip
    assert loss.value == pytest.approx(np.mean(losses), rel=1e-5)


# The U-ViT


def uvit_in_numpy(model, ids, condition):
    """The network's features and logits for one sample, in float64, from the papers' figure.

    Condition is a class, or the vector of a prompt.
    """
    weights = {k: v.double().numpy() for k, v in model.state_dict().items()}
    config = model.config

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)

    def norm(x, name, eps=1e-5):
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def gelu(x):
        return x * 0.5 * (1 + special.erf(x / math.sqrt(2)))

    def block(x, name):
        query, key, value = np.split(linear(norm(x, f"{name}.norm1"), f"{name}.qkv"), 3, axis=1)
        size = config.hidden_size // config.num_heads
        heads = []
        for head in range(config.num_heads):
            part = slice(head * size, (head + 1) * size)
            scores = query[:, part] @ key[:, part].T / math.sqrt(size)
            heads.append(special.softmax(scores, axis=1) @ value[:, part])
        x = x + linear(np.concatenate(heads, axis=1), f"{name}.proj")
        return x + linear(gelu(linear(norm(x, f"{name}.norm2"), f"{name}.fc1")), f"{name}.fc2")

    tokens = weights["token_embedding.weight"][ids] + weights["position_embedding"]
    if config.context_size:
        label = linear(condition[None], "context_embed")
    else:
        label = norm(weights["class_embedding.weight"][[condition]], "class_norm", 1e-6)
    x = np.concatenate([label, norm(tokens, "token_norm", 1e-6)])
    half, skips = config.depth // 2, []
    for i in range(half):
        x = block(x, f"in_blocks.{i}")
        skips.append(x)
    x = block(x, "mid_block")
    for i in range(half):  # block depth - 1 - i is joined to block i
        x = linear(np.concatenate([x, skips[half - 1 - i]], axis=1), f"out_blocks.{i}.skip_linear")
        x = block(x, f"out_blocks.{i}")
    features = norm(x, "norm")[1:]
    hidden = norm(gelu(linear(features, "head.0")), "head.2")
    codes = weights["token_embedding.weight"][: config.codebook_size]
    return features, hidden @ codes.T + weights["head_bias"]


@pytest.mark.parametrize("depth", [1, 3, 5])
@pytest.mark.parametrize("with_gradient", [False, True])
def test_uvit_equals_numpy(depth, with_gradient):
    """Both attention paths: fused without gradients, explicit with them."""
    model = tiny_uvit(seed=depth, depth=depth)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(8, (4, 6), generator=generator)  # masks among them
    condition = torch.tensor([0, 1, 2, 3])  # 3 is null
    with torch.set_grad_enabled(with_gradient):
        output = model(ids, condition)
    for row in range(4):
        features, logits = uvit_in_numpy(model, ids[row].numpy(), int(condition[row]))
        np.testing.assert_allclose(output.features[row].detach(), features, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(output.logits[row].detach(), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("codes", "grid", "classes", "size", "depth", "heads"),
    [(7, (2, 3), 3, 8, 1, 2), (64, (4, 4), 10, 64, 3, 4), (256, (7, 7), 10, 32, 7, 4)],
)
def test_number_of_parameters(codes, grid, classes, size, depth, heads):
    embeddings = (codes + 1) * size + math.prod(grid) * size + (classes + 1) * size
    attention, mlp = 3 * size**2 + size**2 + size, 4 * size**2 + 4 * size + 4 * size**2 + size
    blocks = depth * (attention + mlp + 2 * 2 * size)
    skips = depth // 2 * (2 * size**2 + size)
    norms = 3 * 2 * size  # tokens, class, last
    head = size**2 + size + 2 * size + codes  # its matrix of codes is the token embedding
    model = UViT(UViTConfig(codes, grid, classes, size, depth, heads))
    count = sum(p.numel() for p in model.parameters())
    assert count == embeddings + blocks + skips + norms + head


def test_features_are_the_last_norms_output_at_the_tokens():
    model = tiny_uvit()
    outputs = []
    model.out_blocks[-1].register_forward_hook(lambda _, __, output: outputs.append(output))
    output = model(torch.full((2, 6), model.mask_id), torch.tensor([0, 3]))
    (blocks,) = outputs
    assert blocks.shape == (2, 7, 8)  # the class token comes first
    torch.testing.assert_close(output.features, model.norm(blocks)[:, 1:])
    assert output.features.is_contiguous()  # of a slice the head would be slow
    assert output.logits.shape == (2, 6, 7)  # no logit for the mask
    torch.testing.assert_close(model.logits(output.features), output.logits)


def test_the_tied_head_gives_the_embedding_no_gradient():
    """Only codes that stand in the input are moved, and the head's own parts are."""
    model = tiny_uvit()
    ids = torch.tensor([[0, 2, 7, 7, 2, 0]])
    model(ids, torch.tensor([1])).logits.square().sum().backward()
    gradient = model.token_embedding.weight.grad
    moved = gradient.abs().sum(dim=1) > 0
    assert moved.nonzero()[:, 0].tolist() == [0, 2, 7]
    assert (model.head_bias.grad != 0).all()
    # And yet the head is tied: another embedding gives other logits of that code alone.
    features = model(ids, torch.tensor([1])).features.detach()
    before = model.logits(features)
    with torch.no_grad():
        model.token_embedding.weight[4] += 1.0
    changed = (model.logits(features) != before).all(dim=(0, 1))
    assert changed.nonzero()[:, 0].tolist() == [4]


def test_every_label_and_null_give_something_else():
    model = tiny_uvit()
    canvas = torch.full((4, 6), model.mask_id)
    output = model(canvas, torch.arange(4))
    for a in range(4):
        for b in range(a):
            assert (output.logits[a] - output.logits[b]).abs().max() > 1e-3
            assert (output.features[a] - output.features[b]).abs().max() > 1e-3


def test_positions_matter():
    model = tiny_uvit()
    logits = model(torch.full((1, 6), model.mask_id), torch.tensor([0])).logits[0]
    assert (torch.cdist(logits, logits) + torch.eye(6) > 0.01).all()


@pytest.mark.parametrize(
    ("argument", "value"), [("depth", 2), ("depth", 0), ("depth", -1), ("num_heads", 3)]
)
def test_sizes_that_do_not_fit_are_refused(argument, value):
    with pytest.raises(ValueError, match=rf"^{argument}: got {value}"):
        UViTConfig(**(vars(TINY) | {argument: value}))


@pytest.mark.parametrize("text", ["{}", "no json", '{"digest": "another"}', "[]"])
def test_a_folder_with_the_parts_of_something_else_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.setattr(pretrain.make, "train_tokenizer", None)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"^work: "):
        make_bundle(digits(), PRESETS["digits"], tmp_path, tmp_path / "out")
    assert (tmp_path / "config.json").read_text() == text
    for work in (tmp_path, tmp_path / "transformer" / "parts"):
        with pytest.raises(ValueError, match=r"^out: got .* another folder than that of the parts"):
            make_bundle(digits(), PRESETS["digits"], work, tmp_path / "x" / "..")
