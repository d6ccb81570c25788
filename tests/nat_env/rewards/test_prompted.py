"""Rewards and discriminators that go by prompts."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nat_env.bundles.loading import load_bundle
from nat_env.bundles.reals import TensorReals
from nat_env.rewards import clip as clip_module
from nat_env.rewards.adversarial import AdversarialRewardModel
from nat_env.rewards.clip import ClipScore
from nat_env.rewards.composition import Clipped, RunningNormalized, WeightedSum
from nat_env.rewards.discriminator import ProjectionHead, ScratchDiscriminator
from nat_env.rewards.discriminator_config import DiscriminatorConfig
from nat_env.rewards.names import named_reward
from nat_env.rewards.prompted import PromptReward
from nat_env.rewards.protocol import tell_names
from nat_env.vector_env import NATDecodeVectorEnv


def test_a_model_of_images_and_prompts_is_a_reward(toy_text):
    reward = PromptReward(toy_text.darkness, ("a cat", "two dogs"))
    images = torch.tensor([0.0, 0.5, 0.25])[:, None, None, None].expand(3, 1, 4, 4)
    expected = [1.0 * 8, 0.5 * 5, 0.75 * 8]
    assert reward(images, torch.tensor([1, 0, 1])).tolist() == expected
    longer = PromptReward(toy_text.darkness, ("a cat",), "this is {}")
    assert longer(images[:1], torch.tensor([0])).tolist() == [len("this is a cat")]


def test_by_name_it_gets_the_prompts_of_the_bundle(toy_text, text_folder):
    choice = {"name": "prompt", "score": "toy_text:darkness"}
    env = NATDecodeVectorEnv(2, str(text_folder), 1, reward_fn=choice)
    env.reset(seed=0, options={"condition": np.array([1, 0])})
    rewards = env.step(np.zeros((2, 4)))[1]
    expected = [
        float((1 - toy_text.drawn(prompt)).mean()) * len(prompt) for prompt in ("ccc d", "a bb")
    ]
    np.testing.assert_allclose(rewards, expected, rtol=1e-6)


def test_what_is_no_score_of_prompts_is_refused(toy_text, text_folder):
    bundle = load_bundle(text_folder)
    with pytest.raises(ValueError, match=r"^score: got 'darkness'"):
        named_reward("prompt", bundle, score="darkness")
    with pytest.raises(ValueError, match=r"^text: got 'a'"):
        named_reward("prompt", bundle, score="toy_text:darkness", text="a")
    with pytest.raises(ValueError, match=r"^score: got 'toy_text:WORDS'|^score: got 4"):
        named_reward("prompt", bundle, score="toy_text:WORDS")
    for prompts in ((), "a cat"):
        with pytest.raises(ValueError, match=r"^prompts: got "):
            PromptReward(toy_text.darkness, prompts)


def test_names_reach_rewards_inside_of_rewards(toy_text):
    inner = PromptReward(toy_text.darkness, ("a",))
    made = WeightedSum([(2.0, Clipped(RunningNormalized(inner), -1.0)), (1.0, lambda i, c: c)])
    tell_names(made, ("a", "bb"))
    assert inner.prompts == ("a", "bb")
    tell_names(lambda images, conditions: images, ("a", "bb"))  # does not ask


# CLIP score


def test_clip_scores_the_prompts_of_a_text_bundle_as_they_are(clip_folder, text_folder):
    from transformers import CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(clip_folder).eval()
    tokenizer = CLIPTokenizer.from_pretrained(clip_folder)
    reward = named_reward("clip", load_bundle(text_folder), path_or_id=str(clip_folder))
    images = torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    expected = []
    with torch.no_grad():
        for image, prompt in zip(images, ["ccc d", "a bb", "ccc d", "a bb"], strict=True):
            tokens = tokenizer([prompt], return_tensors="pt")
            text = model.get_text_features(**tokens).pooler_output[0]
            pixels = reward.prepared(image[None])
            seen = model.get_image_features(pixel_values=pixels).pooler_output[0]
            cosine = float(text @ seen / text.norm() / seen.norm())
            expected.append(100 * max(cosine, 0))
    assert max(expected) > 1
    scores = reward(images, torch.tensor([1, 0, 1, 0]))
    torch.testing.assert_close(scores, torch.tensor(expected), rtol=1e-4, atol=1e-3)


def test_prompts_are_embedded_once_and_few_are_kept(clip_folder, monkeypatch):
    monkeypatch.setattr(clip_module, "PROMPTS_KEPT", 2)
    reward = ClipScore(clip_folder, ["a", "b", "c"])
    asked = []
    original = reward._tokenizer
    reward._tokenizer = lambda texts, **options: asked.append(texts) or original(texts, **options)
    images = torch.rand(2, 3, 24, 24)
    for numbers in ([0, 0], [0, 1], [0, 2], [0, 1], [0, 0]):
        reward(images, torch.tensor(numbers))
    assert asked == [["a"], ["b"], ["c"], ["b"]]
    reward.tell_names(["a", "b", "c", "d"])
    reward(images, torch.tensor([3, 0]))
    assert asked[4:] == [["d"]]


# Discriminators


def test_the_projection_takes_pooled_embeddings_of_length_one():
    """StyleGAN-T's projection without a mapping network, number by number."""
    generator = torch.Generator().manual_seed(0)
    pooled = torch.randn(4, 5, generator=generator)  # of three prompts and of none
    head = ProjectionHead(8, 3, pooled).requires_grad_(False)
    hidden = torch.randn(2, 8, 2, 2, generator=generator)
    weight, output = head.class_embedding.weight, head.output
    assert weight.shape == (8, 5)
    logits = head(hidden, torch.tensor([2, 0]))
    for row, condition in enumerate([2, 0]):
        unit = pooled[condition] / pooled[condition].square().sum().sqrt()
        vector = [sum(float(weight[w, p] * unit[p]) for p in range(5)) for w in range(8)]
        for place, (y, x) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
            here = hidden[row, :, y, x]
            plain = float(output.weight[0, :, 0, 0] @ here + output.bias[0])
            expected = plain + sum(float(here[w]) * vector[w] for w in range(8))
            assert float(logits[row, place]) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert "class_embedding._pooled" not in head.state_dict()
    assert sum(p.numel() for p in head.parameters()) == 8 + 1 + 8 * 5


def test_prompts_that_are_alike_are_judged_alike_and_others_are_not():
    pooled = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    network = ScratchDiscriminator(1, 3, (8,), pooled)
    images = torch.rand(1, 1, 8, 8).expand(3, -1, -1, -1)
    logits = network(images, torch.arange(3))
    torch.testing.assert_close(logits[0], logits[1])
    assert (logits[0] - logits[2]).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_discriminator_of_prompts_learns_which_belong_to_an_image(dtype):
    """Bright images of one prompt and dark ones of another against the other way round."""
    pooled = torch.tensor([[4.0, 0.0], [0.0, 2.0], [0.0, 0.0]], dtype=dtype)
    labels = torch.arange(64) % 2
    images = torch.where(labels[:, None, None, None] == 0, 0.9, 0.1).expand(-1, 1, 8, 8)
    images = images.contiguous()
    config = DiscriminatorConfig(widths=(8,), batch_size=32, learning_rate=0.02)
    model = AdversarialRewardModel(TensorReals(images, labels), 2, config, pooled=pooled)
    assert model.knows_prompts
    model.update(images, 1 - labels, num_updates=60)
    right, wrong = model(images, labels), model(images, 1 - labels)
    assert right.min() > 0.8 and wrong.max() < 0.2
    state = model.state_dict()["discriminator"]
    assert state["head.class_embedding.weight"].dtype == torch.float32
    assert F.normalize(pooled.float(), dim=1)[0].tolist() == [1, 0]
