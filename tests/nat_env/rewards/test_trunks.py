"""Frozen trunks of a discriminator: each stage against an independent way to the same maps."""

import copy
import shutil
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from nat_env import load_bundle, named_reward
from nat_env.bundles.reals import TensorReals
from nat_env.models.classifier import Classifier, ClassifierConfig
from nat_env.models.efficientnet import VARIANTS, load_efficientnet_lite
from nat_env.rewards.adversarial import AdversarialRewardModel
from nat_env.rewards.augment import augment
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.rewards.trunks import ClassifierTrunk, VisionTransformerTrunk, load_trunk

DIGITS = load_bundle("digits")


def images_of(count: int = 3, channels: int = 1, size: int = 28) -> torch.Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0))


def trunks(transformer_folder):
    yield ClassifierTrunk(load_bundle("fashion").trunk)
    yield load_trunk("efficientnet", DIGITS, resolution=64)
    yield load_trunk("transformer", DIGITS, str(transformer_folder), resolution=32)


def test_sizes_are_those_named_and_images_do_not_see_each_other(transformer_folder):
    images = images_of()
    for trunk in trunks(transformer_folder):
        maps = trunk.stages(images)
        assert [m.shape[:2] for m in maps] == [(3, size) for size in trunk.stage_sizes]
        alone = trunk.stages(images[1:2])
        for together, one in zip(maps, alone, strict=True):
            torch.testing.assert_close(together[1:2], one, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_efficientnets_stages_lead_to_its_features(name):
    network = load_efficientnet_lite(name, 64)
    images = images_of(2, channels=3)
    maps = network.stages(images)
    assert [m.shape[1:] for m in maps] == [
        (size, side, side) for size, side in zip(network.stage_sizes, (16, 8, 4, 2), strict=True)
    ]
    last = maps[-1]
    head = network.classifier
    features = head._swish(head._bn1(head._conv_head(last))).mean(dim=(2, 3))
    torch.testing.assert_close(features, network(images))


def test_a_transformers_stages_are_its_layers_with_the_class_token_added(transformer_folder):
    from transformers import ViTModel

    trunk = VisionTransformerTrunk.load(str(transformer_folder), resolution=32)
    assert trunk.layers == [1, 2, 3, 4]
    images = images_of(2, size=32)
    network = ViTModel.from_pretrained(transformer_folder).eval()
    captured = []
    for layer in network.encoder.layer if hasattr(network, "encoder") else network.layers:
        layer.register_forward_hook(
            lambda _, __, out: captured.append(out[0] if isinstance(out, tuple) else out)
        )
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    grey = images.numpy().repeat(3, axis=1)
    inputs = (grey - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        network(pixel_values=torch.from_numpy(inputs).float())
    for stage, hidden in zip(trunk.stages(images), captured, strict=True):
        for y, x in ((0, 0), (1, 3), (3, 2)):
            expected = hidden[:, 1 + 4 * y + x] + hidden[:, 0]
            torch.testing.assert_close(stage[:, :, y, x], expected, rtol=1e-4, atol=1e-5)


def test_a_trunk_of_a_transformer_begins_with_its_embedding(transformer_folder):
    """Patches with their positions, the class token added: StyleGAN-T's fifth map."""
    from transformers import ViTModel

    trunk = load_trunk("transformer", DIGITS, str(transformer_folder), resolution=32)
    plain = VisionTransformerTrunk.load(str(transformer_folder), resolution=32)
    images = images_of(2, channels=3, size=32)
    first, *others = trunk.stages(images)
    for one, other in zip(others, plain.stages(images), strict=True):
        assert torch.equal(one, other)
    weights = ViTModel.from_pretrained(transformer_folder).embeddings.state_dict()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (trunk.MEAN, trunk.STD))
    kernel = weights["patch_embeddings.projection.weight"]  # [D, 3, 8, 8]
    position = weights["position_embeddings"][0]
    for row, (y, x) in enumerate([(0, 3), (2, 1)]):
        patch = ((images[row] - mean) / std)[:, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
        token = (kernel * patch).sum(dim=(1, 2, 3)) + weights["patch_embeddings.projection.bias"]
        token = token + position[1 + 4 * y + x]
        expected = token + weights["cls_token"][0, 0] + position[0]
        torch.testing.assert_close(first[row, :, y, x], expected, rtol=1e-4, atol=1e-4)


def test_a_classifier_of_one_stage_carries_no_heads():
    lone = Classifier(ClassifierConfig(channels=1, num_classes=3, widths=(8,)))
    config, labels = DiscriminatorConfig(trunk="bundle", widths=(8,), batch_size=3), torch.arange(3)
    with pytest.raises(ValueError, match=r"^trunk: got one without stages for heads"):
        AdversarialRewardModel(
            TensorReals(images_of(), labels), 3, config, trunk=ClassifierTrunk(lone)
        )


@pytest.mark.parametrize("trunk", ["scratch", "bundle"])
def test_half_of_the_real_images_are_mirrored_where_asked(trunk):
    class Seen(ClassifierTrunk):
        def stages(self, images):
            shown.append(images.clone())
            return super().stages(images.mul_(0.5))  # in place: on a copy of its own

    shown: list[torch.Tensor] = []
    real, labels = images_of(1, size=8).repeat(64, 1, 1, 1), torch.zeros(64).long()
    config = DiscriminatorConfig(trunk=trunk, widths=(8,), batch_size=64, flip=True)
    frozen = None if trunk == "scratch" else Seen(DIGITS.trunk)
    model = AdversarialRewardModel(TensorReals(real, labels), 1, config, trunk=frozen)
    if trunk == "scratch":
        model.discriminator.layers.register_forward_pre_hook(
            lambda _, given: shown.append((given[0] + 1) / 2)
        )
    fakes = images_of(64, size=8)
    kept = fakes.clone()
    model.update(fakes, labels)
    seen = next(batch for batch in shown if len(batch) > 1 and not torch.equal(batch, kept))[:64]
    straight = (seen - real).abs().amax(dim=(1, 2, 3)) < 1e-6
    mirrored = (seen - real.flip(-1)).abs().amax(dim=(1, 2, 3)) < 1e-6
    assert (straight | mirrored).all() and 20 < mirrored.sum() < 44
    assert torch.equal(fakes, kept)


def test_a_transformer_takes_other_sizes_in_half_precision_and_a_second_derivative(
    transformer_folder, tmp_path
):
    from transformers import ViTModel

    ViTModel.from_pretrained(transformer_folder).half().save_pretrained(tmp_path / "half")
    trunk = load_trunk("transformer", DIGITS, str(tmp_path / "half"), resolution=16)
    maps = trunk.stages(images_of())
    assert {m.shape for m in maps} == {(3, 16, 2, 2)} and {m.dtype for m in maps} == {torch.float32}
    config = DiscriminatorConfig(trunk="transformer", widths=(8,), batch_size=3, r1=1.0)
    model = AdversarialRewardModel(
        TensorReals(images_of(), torch.arange(3)), 3, config, trunk=trunk
    )
    assert np.isfinite(model.update(images_of(), torch.arange(3))["loss"])


def test_what_does_not_fit_is_refused(transformer_folder, tmp_path):
    with pytest.raises(ValueError, match=r"^trunk: got 'dino', allowed are"):
        load_trunk("dino", DIGITS)
    for path in (None, str(tmp_path / "absent")):
        with pytest.raises(ValueError, match=r"^trunk_path: got"):
            load_trunk("transformer", DIGITS, path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"^trunk_path: got .*empty', allowed is a folder or an id"
    ):
        load_trunk("transformer", DIGITS, str(tmp_path / "empty"))
    with pytest.raises(ValueError, match=r"^resolution: got 33, allowed are multiples of"):
        load_trunk("transformer", DIGITS, str(transformer_folder), resolution=33)
    with pytest.raises(ValueError, match=r"^num_stages: got 5, allowed are 1 .. 4"):
        VisionTransformerTrunk(
            VisionTransformerTrunk.load(str(transformer_folder), 32).network, 32, num_stages=5
        )


def test_a_transformer_without_all_its_tensors_is_refused(transformer_folder, tmp_path):
    """But for those of the pooling, which no map is made of: transformers draws what is missing."""
    folder = shutil.copytree(transformer_folder, tmp_path / "mine")
    weights = load_file(folder / "model.safetensors")
    used = {name: value for name, value in weights.items() if not name.startswith("pooler.")}
    assert len(used) < len(weights)
    save_file(used, folder / "model.safetensors", metadata={"format": "pt"})
    maps = (
        VisionTransformerTrunk.load(str(path), 32).stages(images_of())
        for path in (transformer_folder, folder)
    )
    for expected, found in zip(*maps, strict=True):
        assert torch.equal(expected, found)
    del used[next(name for name in used if "layer.0" in name)]
    save_file(used, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"^trunk_path: .* lacks 1 tensors of .*layers?\.0"):
        VisionTransformerTrunk.load(str(folder), 32)


def test_a_logit_is_the_mean_of_what_a_head_says_of_every_position():
    trunk = load_trunk("efficientnet", DIGITS, resolution=64)
    config, labels = DiscriminatorConfig(trunk="efficientnet", widths=(16,)), torch.arange(3)
    model = AdversarialRewardModel(
        TensorReals(images_of(128), torch.arange(128) % 3), 3, config, trunk=trunk
    )
    network = model.discriminator
    logits = network(images_of(), labels)
    for stage, hidden in enumerate(trunk.stages(images_of())):
        maps = network.branches[stage](hidden)
        embedding = network.heads[stage].class_embedding.weight[labels]
        output = network.heads[stage].output
        for i in range(3):
            at_positions = [
                (output.weight[0, :, 0, 0] + embedding[i]) @ position + output.bias
                for position in maps[i].flatten(1).T
            ]
            torch.testing.assert_close(logits[i, stage], torch.stack(at_positions).mean())


def test_heads_on_any_trunk_learn_and_the_trunk_does_not(transformer_folder):
    reals = images_of(32) * 0.3 + 0.7
    labels = torch.zeros(32).long()
    for trunk in (
        load_trunk("efficientnet", DIGITS, resolution=64),
        load_trunk("transformer", DIGITS, str(transformer_folder), resolution=32),
    ):
        name = "transformer" if isinstance(trunk, VisionTransformerTrunk) else "efficientnet"
        config = DiscriminatorConfig(trunk=name, widths=(16,), batch_size=16, learning_rate=5e-3)
        model = AdversarialRewardModel(TensorReals(reals, labels), 1, config, trunk=trunk)
        before = [stage.clone() for stage in trunk.stages(reals[:2])]
        for _ in range(20):
            result = model.update(images_of(16) * 0.3, labels[:16])
        assert min(result["accuracy_real"], result["accuracy_fake"]) > 0.9
        for old, new in zip(before, trunk.stages(reals[:2]), strict=True):
            assert torch.equal(old, new)


@pytest.mark.parametrize("trunk_name", ["scratch", "bundle"])
def test_r1_is_the_squared_gradient_at_real_images(trunk_name):
    bundle = load_bundle("digits")
    trunk = load_trunk(trunk_name, bundle)
    real = images_of(1, size=8)
    reals, labels = real.repeat(16, 1, 1, 1), torch.zeros(16).long()
    fake = images_of(20, size=8)[4:]

    def loss(r1):
        config = DiscriminatorConfig(trunk=trunk_name, widths=(8, 8), batch_size=16, r1=r1)
        model = AdversarialRewardModel(TensorReals(reals, labels), 10, config, trunk=trunk)
        return model, model.update(fake, labels)["loss"]

    # Central differences of the untrained discriminator, in float64.
    config = DiscriminatorConfig(trunk=trunk_name, widths=(8, 8), batch_size=16)
    network = AdversarialRewardModel(
        TensorReals(reals, labels), 10, config, trunk=trunk
    ).discriminator
    network = copy.deepcopy(network).double()
    for frozen in getattr(network, "_frozen", ()):
        frozen.tower.double()
    step, squared = 1e-6, 0.0
    with torch.no_grad():
        for index in range(64):
            offset = torch.zeros(64, dtype=torch.float64)
            offset[index] = step
            offset = offset.view(1, 1, 8, 8)
            up, down = (network(real + sign * offset, labels[:1]).mean() for sign in (1, -1))
            squared += float((up - down) / (2 * step)) ** 2
    model, with_penalty = loss(r1=10.0)
    assert with_penalty - loss(r1=0.0)[1] == pytest.approx(10 / 2 * squared, rel=1e-3)
    assert not any(p.requires_grad for p in bundle.trunk.parameters())
    assert not model(reals[:2], labels[:2]).requires_grad


def test_augmentation_moves_each_image_by_its_own_draw():
    images = torch.zeros(64, 1, 16, 16)
    images[:, :, 8, 8] = 1.0
    generator = torch.Generator().manual_seed(0)
    out = augment(images, generator)
    assert out.shape == images.shape
    peaks = {int(i.flatten().argmax()) for i in out}
    rows, columns = {p // 16 for p in peaks}, {p % 16 for p in peaks}
    assert len(peaks) > 8 and len(rows) > 1 and len(columns) > 1  # holes hide some of them
    shown = [i for i in out if i.max() - i.median() > 0.5]
    where = [divmod(int(i.flatten().argmax()), 16) for i in shown]
    assert len(shown) > 30 and all(6 <= y <= 10 and 6 <= x <= 10 for y, x in where)
    again = augment(images, torch.Generator().manual_seed(0))
    assert torch.equal(out, again)
    for own in (slice(0, 32), slice(32, 64)):  # as two processes have them
        part = augment(images[own], torch.Generator().manual_seed(0), own, 64)
        assert torch.equal(part, out[own])


def test_augmentation_is_for_updates_and_not_for_rewards():
    config = DiscriminatorConfig(widths=(8, 8), batch_size=16, augment=True)
    reals, labels = images_of(16, size=8), torch.zeros(16).long()
    model = AdversarialRewardModel(TensorReals(reals, labels), 1, config)
    model.update(reals, labels)
    assert torch.equal(model(reals, labels), model(reals, labels))
    logits = model.discriminator(reals, labels).mean(dim=1)
    torch.testing.assert_close(model(reals, labels), logits.sigmoid())
    assert F.mse_loss(augment(reals, model.generator), reals) > 0.01


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    bundle = load_bundle("digits")
    for needed in (
        lambda: load_trunk("transformer", bundle, "somewhere"),
        lambda: named_reward("clip", bundle, path_or_id="somewhere"),
    ):
        with pytest.raises(ImportError, match=r"needs transformers: pip install 'nat-env\[clip\]'"):
            needed()
