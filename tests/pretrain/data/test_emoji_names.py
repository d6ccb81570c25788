"""What a person would say of an emoji's name; each line by hand."""

import pytest

from pretrain.data.emoji_mirrors import mirror_means_the_same
from pretrain.data.emoji_names import description, is_nameable, wordings

SAID = {
    "red-apple": "a red apple",
    "octopus": "an octopus",
    "unicorn": "a unicorn",
    "ewe": "a ewe",
    "x-ray": "an x-ray",
    "hourglass-done": "a finished hourglass",
    "euro-banknote": "a euro banknote",
    "one-piece-swimsuit": "a one-piece swimsuit",
    "scissors": "scissors",
    "grapes": "grapes",
    "garlic": "garlic",
    "cooked-rice": "cooked rice",
    "glass-of-milk": "a glass of milk",
    "ear-of-corn": "an ear of corn",
    "cactus": "a cactus",
    "dress": "a dress",
    "two-hearts": "two hearts",
    "mans-shoe": "a man's shoe",
    "womans-clothes": "woman's clothes",
    "rescue-workers-helmet": "a rescue worker's helmet",
    "jack-o-lantern": "a jack-o-lantern",
    "t-rex": "a t-rex",
    "two-hump-camel": "a two-hump camel",
    "upside-down-face": "an upside-down face",
    "bow-and-arrow": "a bow and arrow",
    "diamond-with-a-dot": "a diamond with a dot",
    "cloud-with-lightning-and-rain": "a cloud with lightning and rain",
    "frowning-face-with-open-mouth": "a frowning face with an open mouth",
    "smiling-face-with-heart-eyes": "a smiling face with heart eyes",
    "teacup-without-handle": "a teacup without a handle",
    "sun-behind-large-cloud": "the sun behind a large cloud",
    "snow-capped-mountain": "a snow-capped mountain",
    "eight-oclock": "a clock at eight o'clock",
    "twelve-thirty": "a clock at half past twelve",
    "keycap-10": "the number 10 on a key",
    "ab-button-blood-type": "a button with the letters ab",
    "o-button": "a button with the letter o",
    "sos-button": "a button saying sos",
    "radio-button": "a radio button",
    "no-smoking": "a no smoking sign",
    "mens-room": "a men's room sign",
    "plus": "a plus sign",
    "leo": "the zodiac sign leo",
    "rolling-on-the-floor-laughing": "a face rolling on the floor laughing",
    "mount-fuji": "mount fuji",
}


@pytest.mark.parametrize("name", SAID)
def test_descriptions_by_hand(name):
    assert description(name) == SAID[name]


def test_wordings_are_of_all_names_with_and_without_article_and_no_slips_of_the_pen():
    assert wordings(["pinata", "piata"]) == ("a pinata", "pinata")
    assert wordings(["leo"]) == ("the zodiac sign leo", "zodiac sign leo", "leo")
    assert wordings(["enraged-face", "enraged-face", "pouting-face"]) == (
        "an enraged face",
        "enraged face",
        "a pouting face",
        "pouting face",
    )


@pytest.mark.parametrize(
    ("name", "nameable"),
    [
        ("letter-a", False),
        ("keycap", False),
        ("japanese-bargain-button", False),
        ("japanese-castle", True),
        ("love-letter", True),
        ("keycap-3", True),
        ("cool-button", True),
    ],
)
def test_lone_letters_and_japanese_writing_have_no_names(name, nameable):
    assert is_nameable(name) == nameable


@pytest.mark.parametrize(
    ("name", "category", "same"),
    [
        ("red-apple", "Food & Drink", True),
        ("locomotive", "Travel & Places", True),
        ("winking-face", "Smileys & Emotion", True),
        ("right-anger-bubble", "Smileys & Emotion", False),
        ("three-oclock", "Travel & Places", False),
        ("waxing-crescent-moon", "Travel & Places", False),
        ("1st-place-medal", "Activities", False),
        ("money-mouth-face", "Smileys & Emotion", False),
        ("magnifying-glass-tilted-left", "Objects", False),
        ("mobile-phone-with-arrow", "Objects", False),
        ("counterclockwise-arrows-button", "Symbols", False),
        ("keycap-3", "Symbols", False),
        ("blue-square", "Symbols", True),
        ("black-square-button", "Symbols", False),
    ],
)
def test_what_has_a_left_and_a_right_is_not_mirrored(name, category, same):
    assert mirror_means_the_same(name, category) == same
