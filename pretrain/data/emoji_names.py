"""From an emoji's name to what a person would say: "red-apple" to "a red apple"."""

import re
from collections.abc import Iterable

_PREPOSITIONS = {
    "with", "without", "of", "in", "on", "at", "and", "behind", "over", "holding", "savoring",
    "savouring",
}  # fmt: skip
"""What comes after one says more of the thing named before."""
_ARTICLE_AFTER = {"with", "without", "behind"}
_MASS = {
    "bacon", "bread", "broccoli", "butter", "candy", "coral", "custard", "dna", "falafel", "fire",
    "fog", "fondue", "food", "garlic", "ice", "cream", "lightning", "luggage", "money", "oden",
    "popcorn", "rain", "rice", "sake", "salt", "sand", "snow", "soap", "spaghetti", "sushi",
    "sweat", "wood", "fuji",
}  # fmt: skip
"""Nouns that take no article."""
_SINGULAR_IN_S = {
    "abacus", "bus", "cactus", "hibiscus", "hippopotamus", "lotus", "minibus", "octopus",
    "rhinoceros", "trolleybus",
}  # fmt: skip
_SAID_AN = ("hour", "x-ray", "herb")
_SAID_A = ("uni", "eu", "ewe", "one")

_TOGETHER = (
    "yo-yo", "t-rex", "t-shirt", "e-mail", "x-ray", "jack-o-lantern", "snow-capped", "two-hump",
    "four-leaf", "high-heeled", "tear-off", "eight-pointed", "eight-spoked", "six-pointed",
    "front-facing", "crossed-out", "rolled-up", "upside-down", "money-mouth", "one-piece",
    "see-no-evil", "hear-no-evil", "speak-no-evil", "non-potable", "medium-small",
)  # fmt: skip
"""Words that keep their hyphens."""
_POSSESSIVE = {
    "mans": "man's",
    "womans": "woman's",
    "mens": "men's",
    "womens": "women's",
    "workers": "worker's",
}

_SIGNS = {
    "plus", "minus", "multiply", "divide", "infinity", "warning", "prohibited", "radioactive",
    "biohazard", "customs", "cinema", "passport-control", "baggage-claim", "left-luggage",
    "children-crossing", "restroom", "mens-room", "womens-room", "information", "wireless",
    "potable-water", "non-potable-water", "currency-exchange", "copyright", "registered",
    "trade-mark", "construction", "high-voltage", "om", "khanda", "no-entry", "water-closet",
    "no-bicycles", "no-littering", "no-mobile-phones", "no-one-under-eighteen", "no-pedestrians",
    "no-smoking",
}  # fmt: skip
_ZODIAC = {
    "aries", "taurus", "gemini", "cancer", "leo", "virgo", "libra", "scorpio", "scorpius",
    "sagittarius", "capricorn", "aquarius", "pisces", "ophiuchus",
}  # fmt: skip
_SAYING = {"cl", "cool", "free", "id", "new", "ng", "ok", "sos", "vs"}

_SAID = {
    "airplane-arrival": "an arriving airplane",
    "airplane-departure": "a departing airplane",
    "back-arrow": "an arrow saying back",
    "badminton": "a badminton racket and shuttlecock",
    "bowling": "a bowling ball and pins",
    "building-construction": "a building under construction",
    "camping": "a tent in the wild",
    "chart-decreasing": "a decreasing chart",
    "chart-increasing": "an increasing chart",
    "chart-increasing-with-yen": "an increasing chart with a yen sign",
    "circled-m": "the letter m in a circle",
    "cooking": "a frying pan with an egg",
    "cricket-game": "a cricket bat and ball",
    "dashing-away": "a puff of dust",
    "dizzy": "a dizzy star",
    "end-arrow": "an arrow saying end",
    "eye-in-speech-bubble": "an eye in a speech bubble",
    "face-with-hand-over-mouth": "a face with a hand over its mouth",
    "face-with-open-eyes-and-hand-over-mouth": "a face with open eyes and a hand over its mouth",
    "face-with-steam-from-nose": "a face with steam from its nose",
    "face-with-symbols-on-mouth": "a face with symbols on its mouth",
    "field-hockey": "a field hockey stick and ball",
    "flag-in-hole": "a flag in a golf hole",
    "fleur-de-lis": "a fleur-de-lis",
    "flower-playing-cards": "a playing card with flowers",
    "foggy": "a foggy bridge",
    "fork-and-knife-with-plate": "a fork and knife with a plate",
    "globe-showing-americas": "a globe showing the americas",
    "globe-showing-asia-australia": "a globe showing asia and australia",
    "globe-showing-europe-africa": "a globe showing europe and africa",
    "head-shaking-horizontally": "a shaking head",
    "head-shaking-vertically": "a nodding head",
    "hourglass-done": "a finished hourglass",
    "hourglass-not-done": "a running hourglass",
    "hundred-points": "an underlined number hundred",
    "ice-hockey": "an ice hockey stick and puck",
    "input-latin-letters": "a button with the letters abc",
    "input-latin-lowercase": "a button with small letters",
    "input-latin-uppercase": "a button with capital letters",
    "input-numbers": "a button with numbers",
    "input-symbols": "a button with symbols",
    "joker": "a joker card",
    "kaaba": "the kaaba",
    "keycap-asterisk": "an asterisk on a key",
    "keycap-pound": "a hash sign on a key",
    "lacrosse": "a lacrosse stick",
    "leaf-fluttering-in-wind": "a leaf fluttering in the wind",
    "light-rail": "a light rail train",
    "locked": "a locked padlock",
    "locked-with-key": "a locked padlock with a key",
    "locked-with-pen": "a locked padlock with a pen",
    "mate": "a cup of mate tea",
    "milky-way": "the milky way",
    "mobile-phone-off": "a mobile phone switched off",
    "on-exclamation-arrow": "an arrow saying on",
    "p-button": "a parking sign with the letter p",
    "performing-arts": "two theatre masks",
    "ping-pong": "a ping pong paddle and ball",
    "pouring-liquid": "a glass pouring liquid",
    "rolling-on-the-floor-laughing": "a face rolling on the floor laughing",
    "shibuya-109-department-store": "the shibuya 109 department store",
    "soon-arrow": "an arrow saying soon",
    "speaker-high-volume": "a speaker at high volume",
    "speaker-low-volume": "a speaker at low volume",
    "speaker-medium-volume": "a speaker at medium volume",
    "star-struck": "a star-struck face",
    "statue-of-liberty": "the statue of liberty",
    "tennis": "a tennis racket and ball",
    "thread": "a spool of thread",
    "tokyo-tower": "the tokyo tower",
    "top-arrow": "an arrow saying top",
    "umbrella-on-ground": "an umbrella on the ground",
    "unlocked": "an unlocked padlock",
    "up-exclamation-button": "a button saying up",
    "vibration-mode": "a mobile phone in vibration mode",
    "yarn": "a ball of yarn",
    "zzz": "the letters zzz",
}
"""Of names that no rule below makes a phrase of."""

_MISSPELLED = {"piata", "japanese-hear-button"}


def is_nameable(name: str) -> bool:
    """Whether a person can name the picture: not one of a lone letter, or of Japanese writing.

    Example:
        >>> [is_nameable(name) for name in ("letter-q", "japanese-here-button", "japanese-castle")]
        [False, False, True]
    """
    return not re.fullmatch("letter-.|japanese-.*-button|keycap", name)


def description(name: str) -> str:
    """What a person would say.

    Example:
        >>> description("open-mailbox-with-raised-flag"), description("womans-clothes")
        ('an open mailbox with a raised flag', "woman's clothes")
        >>> description("eight-thirty"), description("no-smoking"), description("keycap-7")
        ('a clock at half past eight', 'a no smoking sign', 'the number 7 on a key')
    """
    if name in _SAID:
        return _SAID[name]
    if found := re.fullmatch("(.+)-(oclock|thirty)", name):
        hour = found[1].replace("-", " ")
        return (
            f"a clock at {hour} o'clock" if found[2] == "oclock" else f"a clock at half past {hour}"
        )
    if found := re.fullmatch(r"keycap-(\d+)", name):
        return f"the number {found[1]} on a key"
    if found := re.fullmatch("(a|ab|b|o)-button(-blood-type)?", name):
        return f"a button with the letter{'s' * (len(found[1]) > 1)} {found[1]}"
    if name in _ZODIAC:
        return f"the zodiac sign {name}"
    if (found := re.fullmatch("(.+)-button", name)) and found[1] in _SAYING:
        return f"a button saying {found[1]}"
    words = _words(name + "-sign" if name in _SIGNS else name)
    return _with_article(words)


def wordings(names: Iterable[str]) -> tuple[str, ...]:
    """What a person would say, each also without its article; the first is of the first name.

    Args:
        names: all that the sets have for one emoji.

    Example:
        >>> wordings(["panda", "panda-face"])
        ('a panda', 'panda', 'a panda face', 'panda face')
    """
    found = []
    for name in names:
        if name not in _MISSPELLED:
            found += [description(name), re.sub("^(a|an|the) ", "", description(name))]
            found += [" ".join(_words(name))]
    return tuple(dict.fromkeys(found))


def _words(name: str) -> list[str]:
    text = name.replace("-", " ")
    for together in _TOGETHER:
        text = re.sub(rf"\b{together.replace('-', ' ')}\b", together, text)
    return [_POSSESSIVE.get(word, word) for word in text.split(" ")]


def _with_article(words: list[str]) -> str:
    """With an article where English has one, before the thing and what it is shown with."""
    at = next((i for i, word in enumerate(words) if word in _PREPOSITIONS and i > 0), len(words))
    thing, rest = words[:at], words[at:]
    phrase = " ".join(thing)
    if thing == ["sun"]:
        phrase = "the sun"
    elif thing[0] not in ("a", "an", "the") and not _takes_no_article(thing[-1]):
        phrase = f"{_article(phrase)} {phrase}"
    if not rest:
        return phrase
    if rest[0] in _ARTICLE_AFTER and len(rest) > 1:
        return f"{phrase} {rest[0]} {_with_article(rest[1:])}"
    return f"{phrase} {' '.join(rest)}"


def _takes_no_article(noun: str) -> bool:
    plural = noun.endswith("s") and not noun.endswith("ss") and noun not in _SINGULAR_IN_S
    return noun in _MASS or plural


def _article(phrase: str) -> str:
    if phrase.startswith(_SAID_AN):
        return "an"
    return "an" if phrase[0] in "aeiou" and not phrase.startswith(_SAID_A) else "a"
