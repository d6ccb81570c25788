"""Embeddings on a disk: computed once, whatever comes between."""

import json

import pytest
import torch

from nat_env.text import embeddings
from nat_env.text.embeddings import embedded, embedded_on_disk

PROMPTS = [f"{'a' * (n % 3 + 1)} {'b' * (n % 5 + 1)}" for n in range(10)]


@pytest.fixture
def null():
    return {"context": torch.full((4, 2), -1.0), "pooled": torch.tensor([-2.0, 7.0])}


@pytest.fixture(autouse=True)
def three_at_once(monkeypatch):
    monkeypatch.setattr(embeddings, "AT_ONCE", 3)


def by_hand(prompts, null):
    """Both tables, letter by letter."""
    context = [
        [[len(words[i]), words[i].count("a")] if i < len(words) else [0, 0] for i in range(4)]
        for words in map(str.split, prompts)
    ]
    pooled = [[sum(column) for column in zip(*rows, strict=True)] for rows in context]
    both = {"context": context, "pooled": pooled}
    return {name: torch.tensor([*both[name], row.tolist()]) for name, row in null.items()}


def assert_tables(found, prompts, null):
    expected = by_hand(prompts, null)
    assert found.keys() == null.keys()
    for name, table in found.items():
        assert torch.equal(table, expected[name].to(table.dtype))
        assert table.dtype == null[name].dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_both_ways_give_what_the_encoder_says_and_the_row_of_no_prompt(
    toy_text, tmp_path, null, dtype
):
    null = {name: row.to(dtype) for name, row in null.items()}
    encoder = toy_text.ToyTextEncoder()
    assert_tables(embedded(encoder, PROMPTS, null), PROMPTS, null)
    assert_tables(embedded_on_disk(encoder, PROMPTS, null, tmp_path), PROMPTS, null)
    only = {"pooled": null["pooled"]}
    assert_tables(embedded_on_disk(encoder, PROMPTS, only, tmp_path), PROMPTS, only)


def test_nothing_is_computed_twice(toy_text, tmp_path, null):
    encoder = toy_text.ToyTextEncoder()
    embedded_on_disk(encoder, PROMPTS, null, tmp_path)
    assert encoder.encoded == PROMPTS
    again = embedded_on_disk(encoder, PROMPTS, null, tmp_path)
    assert encoder.encoded == PROMPTS
    assert_tables(again, PROMPTS, null)


@pytest.mark.parametrize("change", ["encoder", "prompts", "null"])
def test_another_encoder_prompt_or_null_row_is_another_table(toy_text, tmp_path, null, change):
    embedded_on_disk(toy_text.ToyTextEncoder(), PROMPTS, null, tmp_path)
    encoder, prompts = toy_text.ToyTextEncoder(), list(PROMPTS)
    if change == "encoder":
        encoder.fingerprint = "another"
    elif change == "prompts":
        prompts[4] = "another"
    else:
        null["context"] = null["context"] + 1
    found = embedded_on_disk(encoder, prompts, null, tmp_path)
    assert encoder.encoded == prompts
    assert_tables(found, prompts, null)


def test_who_is_interrupted_goes_on_where_it_stopped(toy_text, tmp_path, null):
    class Stops(toy_text.ToyTextEncoder):
        def encode(self, prompts):
            if len(self.encoded) >= 6:
                raise KeyboardInterrupt
            return super().encode(prompts)

    with pytest.raises(KeyboardInterrupt):
        embedded_on_disk(Stops(), PROMPTS, null, tmp_path)
    encoder = toy_text.ToyTextEncoder()
    assert_tables(embedded_on_disk(encoder, PROMPTS, null, tmp_path), PROMPTS, null)
    assert encoder.encoded == PROMPTS[6:]


@pytest.mark.parametrize("damage", ["shorter", "missing", "uncounted"])
def test_files_that_are_not_whole_are_computed_anew(toy_text, tmp_path, null, damage):
    embedded_on_disk(toy_text.ToyTextEncoder(), PROMPTS, null, tmp_path)
    (place,) = tmp_path.iterdir()
    if damage == "shorter":
        (place / "context.bin").write_bytes((place / "context.bin").read_bytes()[:-1])
    else:
        (place / {"missing": "pooled.bin", "uncounted": "about.json"}[damage]).unlink()
    encoder = toy_text.ToyTextEncoder()
    assert_tables(embedded_on_disk(encoder, PROMPTS, null, tmp_path), PROMPTS, null)
    assert encoder.encoded == PROMPTS


def test_a_damaged_count_names_its_file(toy_text, tmp_path, null):
    embedded_on_disk(toy_text.ToyTextEncoder(), PROMPTS, null, tmp_path)
    (place,) = tmp_path.iterdir()
    (place / "about.json").write_text("{")
    with pytest.raises(ValueError, match=r"^cache: .*about.json is damaged"):
        embedded_on_disk(toy_text.ToyTextEncoder(), PROMPTS, null, tmp_path)


def test_a_table_on_the_disk_is_read_from_there(toy_text, tmp_path, null):
    table = embedded_on_disk(toy_text.ToyTextEncoder(), PROMPTS, null, tmp_path)["context"]
    (place,) = tmp_path.iterdir()
    with (place / "context.bin").open("r+b") as file:
        file.write(torch.tensor([123.0]).numpy().tobytes())
    assert table[0, 0, 0] == 123
    assert json.loads((place / "about.json").read_text()) == {"done": 10}


def test_what_does_not_fit_the_transformer_or_is_not_finite_is_refused(toy_text, tmp_path, null):
    encoder = toy_text.ToyTextEncoder()
    wrong = {"context": torch.zeros(4, 3)}
    for compute in (embedded, lambda *given: embedded_on_disk(*given, tmp_path)):
        with pytest.raises(ValueError, match=r"text_encoder: gives context \(4, 2\).*\(4, 3\)"):
            compute(encoder, PROMPTS, wrong)

    class Broken(toy_text.ToyTextEncoder):
        def encode(self, prompts):
            context, pooled = super().encode(prompts)
            return context, torch.where(context.sum(dim=(1, 2))[:, None] > 8, torch.nan, pooled)

    with pytest.raises(ValueError, match=r"gave pooled that is not finite of 'aaa bbb'"):
        embedded(Broken(), PROMPTS, null)
