"""Bundles of prompts: other tables for the same models, and the text encoder as a part."""

import dataclasses
import shutil

import pytest
import torch

import nat_env
from nat_env.bundles.discriminator_reals import discriminator_reals
from nat_env.bundles.loading import load_bundle
from nat_env.bundles.reals import TensorReals
from nat_env.bundles.writer import save_bundle
from nat_env.frozen import conditions as conditions_module
from nat_env.frozen.conditions import Conditions
from nat_env.text import table

POLICY = nat_env.ScheduledPolicy(nat_env.heuristic_schedule(2))


@pytest.fixture
def bundle(text_folder):
    return load_bundle(text_folder)


def assert_draws(toy_text, bundle, prompts):
    numbers = [bundle.conditions.by_name[prompt] for prompt in prompts]
    images = nat_env.generate(bundle, POLICY, numbers, 2, seed=0)
    for image, prompt in zip(images, prompts, strict=True):
        torch.testing.assert_close(image, toy_text.drawn(prompt))


def test_prompts_are_added_behind_those_that_there_are(toy_text, bundle):
    new = bundle.with_prompts(["aa aa", "a bb", "aa aa", "b"])
    assert new.conditions.names == ("a bb", "ccc d", "aa aa", "b")
    assert new.text_encoder.encoder.encoded == ["aa aa", "b"]
    assert new.nat.null_condition == new.conditions.null == 4
    assert_draws(toy_text, new, ["a bb", "ccc d", "aa aa", "b"])
    assert_draws(toy_text, bundle, ["a bb", "ccc d"])  # the one before is as it was
    assert torch.equal(new.conditions.context[4], bundle.conditions.context[2])
    assert torch.equal(new.conditions.pooled[4], bundle.conditions.pooled[2])
    assert new.conditions.pooled[2].tolist() == [4, 4]


def test_a_table_in_place_of_another(toy_text, bundle, tmp_path):
    for cache in (None, tmp_path / "cache"):
        new = bundle.with_prompts(["aa aa", "ccc d"], replace=True, cache=cache)
        assert new.conditions.names == ("aa aa", "ccc d")
        assert_draws(toy_text, new, ["ccc d", "aa aa"])
        assert torch.equal(new.conditions.pooled[-1], bundle.conditions.pooled[-1])
    with pytest.raises(ValueError, match=r"^cache: allowed with replace"):
        bundle.with_prompts(["aa aa"], cache=tmp_path / "cache")


def test_the_models_are_the_same(bundle):
    new = bundle.with_prompts(["aa aa"])
    assert new.nat.transformer.scale is bundle.nat.transformer.scale
    assert new.tokenizer is bundle.tokenizer
    assert new.fingerprint == bundle.fingerprint
    assert bundle.with_prompts(["ccc d"]) is bundle


def test_real_images_stay_where_their_prompts_do(bundle):
    """Two of "a bb", one of "ccc d": by the numbers that these have in the new table."""
    images = torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 1, 4, 4)
    ids = torch.arange(12).view(3, 4) % 4
    reals = TensorReals(images, torch.tensor([0, 1, 0]), ids)
    bundle = dataclasses.replace(bundle, reals=reals)
    assert bundle.with_prompts(["aa aa"]).reals is reals
    for prompts, kept, numbers in (
        (["aa aa", "ccc d", "a bb"], [0, 1, 2], [2, 1, 2]),
        (["aa aa", "a bb"], [0, 2], [1, 1]),
        (["ccc d"], [1], [0]),
    ):
        found = bundle.with_prompts(prompts, replace=True).require("reals")
        assert found.conditions.tolist() == numbers
        assert torch.equal(found.images, images[kept]) and torch.equal(found.ids, ids[kept])
    without = dataclasses.replace(bundle, reals=dataclasses.replace(reals, ids=None))
    assert without.with_prompts(["ccc d"], replace=True).require("reals").ids is None
    assert bundle.with_prompts(["aa aa"], replace=True).reals is None


def test_a_discriminator_needs_no_image_of_a_prompt_that_its_vector_tells(bundle):
    """Of a table without such vectors, as of classes, it needs one of each."""
    reals = TensorReals(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), torch.tensor([1]))
    bundle = dataclasses.replace(bundle, reals=reals)
    assert discriminator_reals(bundle, "raw") is reals
    context = Conditions(bundle.conditions.names, bundle.conditions.context)
    with pytest.raises(ValueError, match=r"^reals of bundle 'toy': got no images of 'a bb'"):
        discriminator_reals(dataclasses.replace(bundle, conditions=context), "raw")


def test_known_prompts_need_no_text_encoder(toy_text, bundle, text_folder, monkeypatch):
    def refuse(*given):
        raise AssertionError("the text encoder was read")

    monkeypatch.setattr(toy_text.ToyTextEncoder, "load", refuse)
    load_bundle.cache_clear()
    loaded = load_bundle(text_folder)
    assert_draws(toy_text, loaded, ["ccc d"])
    chosen = loaded.with_prompts(["ccc d"], replace=True)
    assert chosen.conditions.names == ("ccc d",)
    assert_draws(toy_text, chosen, ["ccc d"])
    without = dataclasses.replace(loaded, text_encoder=None)
    with pytest.raises(ValueError, match=r"^bundle: 'toy' has no text_encoder: .*save_bundle"):
        without.with_prompts(["ccc d", "new"])


def test_bad_prompts_are_refused(bundle):
    for prompts in ([], "a cat", [""], ["a", " "], [3]):
        with pytest.raises(ValueError, match=r"^prompts: got "):
            bundle.with_prompts(prompts)
    with pytest.raises(ValueError, match=r"^prompts: got 'a b c d e' of 5 words"):
        bundle.with_prompts(["a b c d e"])
    with pytest.raises(ValueError, match=r"^prompts: got 'a cat' for conditions that are classes"):
        load_bundle("digits").with_prompts(["a cat"])
    with pytest.raises(ValueError, match=r"^prompts: got '0' for conditions that are classes"):
        load_bundle("digits").with_prompts(["0"], replace=True)


def test_a_transformer_without_another_table_says_so(toy_text, bundle, monkeypatch):
    monkeypatch.delattr(toy_text.ToyTextTransformer, "with_conditions")
    with pytest.raises(ValueError, match=r"^transformer: .*with_conditions"):
        bundle.with_prompts(["new"])


def test_a_table_too_large_to_copy_is_not_added_to(bundle, monkeypatch):
    monkeypatch.setattr(table, "MOST_COPIED", 10)
    with pytest.raises(ValueError, match=r"^prompts: got 1 for a table of 120 bytes"):
        bundle.with_prompts(["new"])


def test_a_saved_text_bundle_loads_as_it_was(toy_text, bundle, tmp_path):
    new = bundle.with_prompts(["aa aa"])
    save_bundle(
        tmp_path / "again",
        name="again",
        conditions=new.conditions,
        transformer=new.nat.transformer,
        tokenizer=new.tokenizer,
        text_encoder=new.text_encoder,
    )
    loaded = load_bundle(tmp_path / "again")
    assert loaded.text_encoder.fingerprint == "toy"
    assert_draws(toy_text, loaded, ["aa aa", "a bb"])
    assert_draws(toy_text, loaded.with_prompts(["bbb bb"]), ["bbb bb"])


def test_a_damaged_text_encoder_is_refused_when_it_is_read(text_folder):
    (text_folder / "text_encoder" / "words.txt").write_text("others")
    bundle = load_bundle(text_folder)
    with pytest.raises(ValueError, match=r"^bundle: .*words.txt is truncated"):
        bundle.with_prompts(["new"])
    shutil.rmtree(text_folder / "text_encoder")
    load_bundle.cache_clear()
    with pytest.raises(ValueError, match=r"^bundle: .*words.txt is missing"):
        load_bundle(text_folder)


# Tables


def test_names_are_told_apart_by_case_before_they_are_not():
    conditions = Conditions(("a Cat", "A cat", "2", "dog"))
    assert conditions.numbers(["a Cat", "A cat", "DOG", "1"]) == [0, 1, 3, 1]
    assert conditions.numbers(["2"]) == [2]
    with pytest.raises(ValueError, match=r"^conditions: got the name 'cat' twice"):
        Conditions(("cat", "dog", "cat"))


def test_a_message_names_a_few_of_many_conditions():
    conditions = Conditions(tuple(f"prompt {n}" for n in range(1000)))
    with pytest.raises(ValueError, match=r"allowed are 0 \(prompt 0\), .* and 990 more$"):
        conditions.numbers(["a cat"])


def test_a_large_table_is_not_read_whole(monkeypatch):
    broken = torch.tensor([[1.0], [torch.nan]])
    with pytest.raises(ValueError, match=r"^conditions: got pooled that is not finite"):
        Conditions(("a",), pooled=broken)
    monkeypatch.setattr(conditions_module, "CHECKED_BYTES", 4)
    Conditions(("a",), pooled=broken)
