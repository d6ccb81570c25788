"""A matcher against its formula in numpy, and as judge, trunk and aligner of a bundle."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

import nat_env
from nat_env import load_bundle
from nat_env.frozen.conditions import Conditions
from nat_env.models.classifier import Classifier, ClassifierConfig
from nat_env.rewards.names import chosen_reward
from nat_env.rewards.trunks import load_trunk
from nat_env.text.matcher import Matcher, MatcherConfig

PROMPTS = ("a bb", "ccc d", "aa aa")


def table(toy_text, prompts, dtype=torch.float32):
    _, pooled = toy_text.ToyTextEncoder().encode(prompts)
    return Conditions(tuple(prompts), pooled=torch.cat([pooled, torch.zeros(1, 2)]).to(dtype))


def images(count, seed=0):
    return torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def by_hand(matcher, embeddings, texts):
    """Cosine by cosine."""
    weight, bias = matcher.head.weight.numpy(), matcher.head.bias.numpy()
    logits = np.zeros((len(embeddings), len(texts)))
    for row, embedding in enumerate(embeddings):
        image = weight @ embedding + bias
        for column, text in enumerate(texts):
            cosine = image @ text / np.linalg.norm(image) / np.linalg.norm(text)
            logits[row, column] = math.exp(float(matcher.log_scale)) * cosine
    return logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_logits_are_scaled_cosines_with_the_tables_prompts(toy_text, dtype):
    conditions = table(toy_text, PROMPTS, dtype)
    matcher = toy_text.matcher().with_conditions(conditions)
    embeddings = matcher.embeddings(images(5))
    texts = [[3, 1], [4, 0], [4, 4]]  # letters, and those that are a
    expected = by_hand(matcher, embeddings.numpy(), np.array(texts))
    found = matcher(images(5))
    assert found.shape == (5, 3) and matcher.num_conditions == 3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(matcher.classifier(embeddings), found, rtol=1e-6)
    pairs = matcher.matched(images(5), torch.tensor(texts).float() * 7)  # of any length
    np.testing.assert_allclose(pairs, expected, rtol=1e-4, atol=1e-4)


def test_its_tower_is_a_classifiers(toy_text):
    matcher, classifier = toy_text.matcher(), Classifier(ClassifierConfig(1, 3, (4, 6))).eval()
    state = {k: v for k, v in matcher.state_dict().items() if k.startswith("layers")}
    classifier.load_state_dict(state, strict=False)
    assert torch.equal(matcher.embeddings(images(3)), classifier.embeddings(images(3)))
    for one, other in zip(matcher.stages(images(3)), classifier.stages(images(3)), strict=True):
        assert torch.equal(one, other)
    assert matcher.embedding_size == 6


def test_another_table_shares_the_weights_and_leaves_the_first_as_it_was(toy_text):
    first = toy_text.matcher().with_conditions(table(toy_text, PROMPTS))
    before = first(images(2))
    other = first.with_conditions(table(toy_text, ["aa aa", "b", "ccc d", "a bb"]))
    assert other.head.weight is first.head.weight
    torch.testing.assert_close(other(images(2))[:, [3, 2, 0]], before)
    assert torch.equal(first(images(2)), before)
    assert set(other.state_dict()) == set(toy_text.matcher().state_dict())


def test_its_scale_is_bounded(toy_text):
    matcher = toy_text.matcher().with_conditions(table(toy_text, PROMPTS))
    matcher.log_scale.data.fill_(50.0)
    assert 50 < matcher(images(4)).abs().max() <= 100.001


def test_a_table_that_does_not_fit_is_refused(toy_text):
    with pytest.raises(ValueError, match=r"^conditions: got pooled None, allowed is \(3, 2\)"):
        toy_text.matcher().with_conditions(Conditions(("a", "b")))
    with pytest.raises(ValueError, match=r"^conditions: got pooled \(2, 5\), allowed is \(2, 2\)"):
        toy_text.matcher().with_conditions(Conditions(("a",), pooled=torch.zeros(2, 5)))
    with pytest.raises(ValueError, match=r"^conditions: got none, .*with_conditions"):
        toy_text.matcher()(images(1))


def test_contrastive_steps_teach_it_which_is_which(toy_text):
    shown = torch.stack([toy_text.drawn(prompt) for prompt in PROMPTS])
    conditions = table(toy_text, PROMPTS)
    matcher = toy_text.matcher(widths=(16, 16)).train().requires_grad_(True)
    optimizer = torch.optim.Adam(matcher.parameters(), lr=0.01)
    for _ in range(100):
        logits = matcher.matched(shown, conditions.pooled[:-1])
        loss = torch.nn.functional.cross_entropy(logits, torch.arange(3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert matcher.with_conditions(conditions)(shown).argmax(dim=1).tolist() == [0, 1, 2]


# As parts of a bundle


@pytest.fixture
def bundle(matched_folder):
    return load_bundle(matched_folder)


def test_saved_and_loaded_they_are_the_same(toy_text, bundle, matched_folder):
    parts = (bundle.require("yardstick").judge, bundle.require("trunk"), bundle.require("aligner"))
    for seed, part in enumerate(parts):
        assert isinstance(part, Matcher) and not part.training
        expected = toy_text.matcher(seed).with_conditions(bundle.conditions)
        assert torch.equal(part(images(3)), expected(images(3)))
    assert (matched_folder / "aligner" / "model.safetensors").is_file()
    path = matched_folder / "aligner" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    load_bundle.cache_clear()
    with pytest.raises(ValueError, match=r"aligner.model.safetensors is truncated"):
        load_bundle(matched_folder)


def test_new_prompts_are_known_to_all_parts(toy_text, bundle):
    for new in (bundle.with_prompts(["b", "aa"]), bundle.with_prompts(["b", "a bb"], replace=True)):
        texts = new.conditions.pooled[:-1].numpy()
        assert new.judge_name == "matched-judge"
        for part in (new.require("yardstick").judge, new.require("trunk"), new.require("aligner")):
            assert part.num_conditions == len(new.conditions)
            expected = by_hand(part, part.embeddings(images(2)).numpy(), texts)
            np.testing.assert_allclose(part(images(2)), expected, rtol=1e-4, atol=1e-4)
        assert new.yardstick.statistics is bundle.yardstick.statistics
    assert bundle.require("aligner").num_conditions == 2
    classes = Classifier(ClassifierConfig(1, 2, (4, 6))).eval()
    mixed = dataclasses.replace(bundle, trunk=classes).with_prompts(["b"])
    assert mixed.trunk is None and mixed.aligner is not None


def test_parts_that_do_not_fit_are_refused(toy_text, bundle):
    other = toy_text.matcher().with_conditions(table(toy_text, PROMPTS))
    without = toy_text.matcher()
    coloured = Matcher(MatcherConfig(3, 2, (4, 6))).with_conditions(bundle.conditions)
    for wrong, told in ((other, "(1, 3)"), (without, "(1, 0)"), (coloured, "(3, 2)")):
        with pytest.raises(ValueError, match=r"^aligner: knows") as error:
            dataclasses.replace(bundle, aligner=wrong)
        assert f"= {told}, the bundle asks for (1, 2)" in str(error.value)
        with pytest.raises(ValueError, match=r"^trunk: knows"):
            dataclasses.replace(bundle, trunk=wrong)
        with pytest.raises(ValueError, match=r"^judge: knows"):
            judged = dataclasses.replace(bundle.yardstick, judge=wrong)
            dataclasses.replace(bundle, yardstick=judged)
    bare = dataclasses.replace(bundle, aligner=None)
    with pytest.raises(ValueError, match=r"^bundle: 'matched' has no aligner: .*nat-eval --clip"):
        bare.require("aligner")


def test_the_reward_judge_is_the_prompts_likelihood_among_the_tables(toy_text, bundle):
    wider = bundle.with_prompts(["b", "aa"])
    for one in (bundle, wider):
        judge, shown = one.require("yardstick").judge, images(4)
        conditions = torch.arange(4) % len(one.conditions)
        logits = by_hand(judge, judge.embeddings(shown).numpy(), one.conditions.pooled[:-1].numpy())
        expected = [
            row[c] - np.log(np.exp(row).sum()) for row, c in zip(logits, conditions, strict=True)
        ]
        found = chosen_reward("judge", one)(shown, conditions)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_an_environment_with_that_reward_takes_the_tables_prompts_alone(toy_text, bundle):
    env = nat_env.NATDecodeVectorEnv(2, bundle, 1, reward_fn=chosen_reward("judge", bundle))
    env.reset(seed=0, options={"prompt": ["ccc d", "a bb"]})
    with pytest.raises(ValueError, match=r"^prompt: got 'b', .* reward 'judge', .* those 2"):
        env.reset(seed=0, options={"prompt": ["b", "a bb"]})
    env.reset(seed=0, options={"prompt": ["ccc d", "a bb"]})
    actions = np.zeros((2, 4), dtype=np.float32)
    _, rewards, terminated, _, _ = env.step(actions)
    assert terminated.all()
    shown = torch.stack([toy_text.drawn("ccc d"), toy_text.drawn("a bb")])
    expected = bundle.yardstick.judge(shown).log_softmax(dim=1)[[0, 1], [1, 0]]
    np.testing.assert_allclose(rewards, expected, rtol=1e-4, atol=1e-4)


def test_a_discriminator_stands_on_it(bundle):
    trunk = load_trunk("bundle", bundle)
    assert trunk.stage_sizes == (6,)
    (stage,) = trunk.stages(images(2))
    assert torch.equal(stage, bundle.trunk.stages(images(2))[1])
    assert torch.equal(copy.deepcopy(bundle.trunk)(images(2)), bundle.trunk(images(2)))
