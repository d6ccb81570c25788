"""aMUSEd's transformer beside diffusers' own pipeline, on the same ids and prompts."""

import copy
from dataclasses import replace

import pytest
import torch
from diffusers import AmusedPipeline, AmusedScheduler, UVit2DModel

from nat_env.bundles.loading import load_bundle
from nat_env.convert.amused import convert_amused
from nat_env.decoding.guidance import guide
from nat_env.frozen.conditions import Conditions
from nat_env.models.amused import Amused, AmusedConfig

PROMPTS = ("a cat", "a zebra", "a cat and a dog")


class Recorder(AmusedScheduler):
    """Keeps what the pipeline hands to its scheduler."""

    def step(self, model_output, timestep, sample, **others):
        self.seen.append((sample, model_output))
        return super().step(model_output, timestep, sample, **others)


@pytest.fixture(params=[False, True], ids=["at 256 pixels", "at 512, where it down-samples"])
def both(request, make_amused, tmp_path):
    """The pipeline and the bundle of the same random weights."""
    folder = make_amused(tmp_path / "amused", downsample=request.param)
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    convert_amused(str(folder), tmp_path / "bundle", tmp_path / "prompts.txt")
    return AmusedPipeline.from_pretrained(folder), load_bundle(tmp_path / "bundle", "float32")


def test_logits_and_guided_logits_are_those_of_the_pipeline(both):
    pipe, bundle = both
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = Recorder(mask_token_id=bundle.nat.mask_id)
    pipe.scheduler.seen, raw = [], []
    pipe.transformer.register_forward_hook(lambda _, __, output: raw.append(output))
    pipe(list(PROMPTS), num_inference_steps=4, generator=torch.Generator().manual_seed(0))

    assert len(pipe.scheduler.seen) == len(raw) == 4
    spread = torch.stack([output.std() for output in raw]).min()
    assert spread > 0.05  # something to compare
    for (ids, guided), output in zip(pipe.scheduler.seen, raw, strict=True):
        passes = bundle.nat.passes(ids.flatten(1), torch.arange(3))
        null, logits = output.flatten(2).transpose(1, 2).chunk(2)  # [B, N, K] each
        torch.testing.assert_close(passes.logits, logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(passes.null_logits, null, atol=1e-5, rtol=1e-5)
        ours = guide(passes.logits.flatten(0, 1), passes.null_logits.flatten(0, 1),
                     torch.full((3 * 16,), 10.0 - 1))  # fmt: skip
        theirs = guided.flatten(2).transpose(1, 2).flatten(0, 1)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_tokens_become_the_images_of_the_pipeline(both):
    pipe, bundle = both
    ids = torch.randint(16, (3, 16), generator=torch.Generator().manual_seed(1))
    shape = (3, 4, 4, pipe.vqvae.config.latent_channels)
    decoded = pipe.vqvae.decode(ids.view(3, 4, 4), force_not_quantize=True, shape=shape).sample
    images = bundle.tokenizer.decode(ids)
    torch.testing.assert_close(images, decoded.clip(0, 1).detach())
    assert images.std() > 0.01
    latents = pipe.vqvae.encode(images).latents  # in [0, 1], as they come out
    nearest = torch.cdist(
        latents.permute(0, 2, 3, 1).flatten(0, 2), pipe.vqvae.quantize.embedding.weight
    )
    assert torch.equal(bundle.tokenizer.encode(images).flatten(), nearest.argmin(dim=1))


def test_features_are_what_the_last_norm_of_its_own_grid_gives(both):
    pipe, bundle = both
    halved = pipe.transformer.config.downsample
    assert bundle.nat.feature_grid == ((2, 2) if halved else (4, 4))
    ids = torch.full((1, 16), bundle.nat.mask_id)
    ids[0, ::3] = 5
    features = bundle.nat.passes(ids, torch.tensor([1])).features
    layer = bundle.nat.transformer.network.mlm_layer
    if not halved:  # the logits are a linear map of them
        logits = layer.conv2(features.transpose(1, 2).view(1, -1, 4, 4))
        expected = bundle.nat.passes(ids, torch.tensor([1])).logits
        torch.testing.assert_close(logits.flatten(2).transpose(1, 2), expected)
    scale = features.square().mean(dim=2).sqrt()  # of an RMS norm with weights of one
    torch.testing.assert_close(scale, torch.ones_like(scale), atol=1e-3, rtol=0)
    assert features.shape[1:] == ((4, 16) if halved else (16, 8))
    assert features.abs().max() <= bundle.nat.feature_bound == 2 * features.shape[2] ** 0.5
    network = bundle.nat.transformer.network
    assert not any(module._forward_hooks for module in network.modules())  # none is left


def test_micro_conditions_are_constants_of_the_configuration(both):
    _, bundle = both
    transformer, condition = bundle.nat.transformer, torch.tensor([0])
    assert transformer.config == AmusedConfig((4, 4), (8, 8), (0, 0), 6.0)
    given = []
    transformer.network.register_forward_pre_hook(
        lambda _, __, named: given.append(named["micro_conds"].tolist()), with_kwargs=True
    )
    told = AmusedConfig((4, 4), (7, 9), (1, 2), 5.5)
    other = Amused(transformer.network, told, bundle.conditions)
    other(torch.zeros(1, 16, dtype=torch.int64), condition)
    assert given == [[[9, 7, 1, 2, 5.5]]]  # width first


def test_another_table_shares_the_weights(both):
    _, bundle = both
    transformer = bundle.nat.transformer
    swapped = [1, 0, 2, 3]
    other = transformer.with_conditions(
        Conditions(("zebra", "cat", "both"), **bundle.conditions.rows(swapped))
    )
    ids = torch.full((1, 16), bundle.nat.mask_id)
    expected = transformer(ids, torch.tensor([0])).logits
    assert torch.equal(other(ids, torch.tensor([1])).logits, expected)
    assert torch.equal(transformer(ids, torch.tensor([0])).logits, expected)
    weights = zip(transformer.parameters(), other.parameters(), strict=True)
    assert all(a is b for a, b in weights)
    narrow = Conditions(("a",), context=torch.zeros(2, 12, 5), pooled=torch.zeros(2, 6))
    for wrong in (narrow, Conditions(("a",)), replace(bundle.conditions, pooled=None)):
        with pytest.raises(ValueError, match=r"^conditions: got .*allowed are \(12, 6\)"):
            transformer.with_conditions(wrong)


def test_a_grid_that_cannot_be_halved_is_refused(both):
    _, bundle = both
    network = bundle.nat.transformer.network
    if network.config.downsample:
        with pytest.raises(ValueError, match=r"^grid: got \(3, 4\), allowed are even"):
            Amused(network, AmusedConfig((3, 4), (6, 8)), bundle.conditions)


@pytest.mark.parametrize(
    ("side", "downsample", "features"), [(16, False, (16, 16, 768)), (32, True, (16, 16, 1024))]
)
def test_the_published_sizes(side, downsample, features):
    """Diffusers' defaults are those of amused-256; amused-512 differs in what is given here."""
    with torch.device("meta"):
        network = UVit2DModel(sample_size=side, downsample=downsample, upsample=downsample)
    table = Conditions(("a",), context=torch.zeros(2, 77, 768), pooled=torch.zeros(2, 768))
    amused = Amused(network, AmusedConfig((side, side), (16 * side, 16 * side)), table)
    assert (amused.num_tokens, amused.codebook_size, amused.mask_id) == (side**2, 8192, 8255)
    assert (*amused.feature_grid, amused.feature_size) == features


def test_other_precisions_draw_too(both):
    """In half the bits the logits are near those of float32, and of the type asked for."""
    _, bundle = both
    ids = torch.full((2, 16), bundle.nat.mask_id)
    expected = bundle.nat.passes(ids, torch.tensor([0, 1])).logits
    half = copy.deepcopy(bundle.nat.transformer).to(torch.bfloat16)
    found = half(ids, torch.tensor([0, 1]))
    assert found.logits.dtype == found.features.dtype == torch.bfloat16
    torch.testing.assert_close(found.logits.float(), expected, atol=0.1, rtol=0.1)
