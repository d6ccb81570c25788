"""Files of captions."""

import json

import pytest

from nat_env.text.prompts import fitting_prompts, read_captions, read_prompts


def test_lines_are_captions_each_once_in_their_order(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_bytes("\ufeffa  red\thouse \r\nune église\na red house\n".encode())
    assert read_prompts(path) == ["a red house", "une église"]


def test_empty_lines_are_skipped_and_counted(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("\na cat\n  \n\t\na dog\n")
    with pytest.warns(UserWarning, match=r"^prompts: 3 empty captions of .*captions.txt") as told:
        assert read_prompts(path) == ["a cat", "a dog"]
    assert len(told) == 1


def test_a_tsv_has_its_captions_in_the_first_column(tmp_path):
    path = tmp_path / "cc3m.TSV"
    path.write_text("a cat\thttp://a/b.jpg\na dog\t/9j/4AAQ\n")
    assert read_prompts(path) == ["a cat", "a dog"]
    assert [caption.image for caption in read_captions(path)] == ["http://a/b.jpg", "/9j/4AAQ"]


def test_cocos_captions_are_read_with_their_images(tmp_path):
    path = tmp_path / "captions_val2017.json"
    annotations = [
        {"image_id": 7, "id": 1, "caption": "A cat\non a mat."},
        {"image_id": 5, "id": 2, "caption": "Two dogs."},
        {"image_id": 7, "id": 3, "caption": "Two dogs."},
    ]
    images = [{"id": 5, "file_name": "005.jpg"}, {"id": 7, "file_name": "007.jpg"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    assert list(read_captions(path)) == [
        ("A cat on a mat.", "007.jpg"),
        ("Two dogs.", "005.jpg"),
        ("Two dogs.", "007.jpg"),
    ]
    assert read_prompts(path) == ["A cat on a mat.", "Two dogs."]


@pytest.mark.parametrize("name", ["captions.txt", "captions.tsv", "captions.json"])
def test_broken_utf_8_is_refused_with_its_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"a cat\nsecond\na caf\xe9 outside\n")
    with pytest.raises(ValueError, match=rf"^prompts: line 3 of '.*{name}' is not UTF-8"):
        read_prompts(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.txt", "\n \n", "holds no captions"),
        ("a.json", '{"images": []}', "is no captions file as COCO's.*annotations"),
        ("a.json", '{"annotations": [{"image_id": 3}]}', "is no captions file"),
        ("a.json", '{"annotations": [', "is no captions file"),
        ("a.json", '["a cat"]', "is no captions file"),
    ],
)
def test_what_is_no_file_of_captions_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"^prompts: '.*{name}' {message}"):
        read_prompts(tmp_path / name)
    with pytest.raises(ValueError, match=r"^prompts: '.*nowhere.txt' is no file"):
        read_prompts(tmp_path / "nowhere.txt")


def test_of_many_prompts_those_too_long_are_left_out_with_one_warning(toy_text):
    encoder = toy_text.ToyTextEncoder()
    prompts = ["a b c d", "a b c d e", "a", "f g h i j k"]
    with pytest.warns(UserWarning, match=r"2 of 4 take more than the 4 tokens .* up to 6") as told:
        assert fitting_prompts(prompts, encoder) == ["a b c d", "a"]
    assert len(told) == 1
    assert fitting_prompts(["a", "b"], encoder) == ["a", "b"]
    with pytest.raises(ValueError, match=r"^prompts: 1 of 1 take more"):
        fitting_prompts(["a b c d e"], encoder)
