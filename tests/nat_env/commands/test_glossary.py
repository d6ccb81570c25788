"""What the help says of its own words."""

from nat_env.commands.glossary import WORDS, described


def test_the_words_that_the_help_has_are_explained(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    text = described("A long sentence. " * 8 + "\n\nBundles.", "Bundles; --residual STR; prejudged")
    assert max(map(len, text.splitlines())) <= 60
    paragraphs = text.split("\n\n")
    assert paragraphs[1] == "  Bundles." and len(paragraphs) == 3
    explained = [line for line in paragraphs[2].splitlines() if line[2] != " "]
    assert [line.partition(":")[0].strip() for line in explained] == ["bundle", "residual"]
    assert WORDS["residual"] in " ".join(paragraphs[2].split())


def test_nothing_is_added_where_there_is_nothing_to_explain(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert described("Plain.", "nat-x: plain words.") == "  Plain."
