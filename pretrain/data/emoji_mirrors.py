"""Which emoji mean the same in a mirror."""

_HANDED = {
    # directions, and what turns
    "left", "right", "arrow", "cyclone", "dna", "spiral", "barber", "tilted", "magnifying",
    # clocks, and moons that grow or wane
    "clock", "oclock", "thirty", "watch", "stopwatch", "timer", "compass", "moon",
    # letters, digits and lines of text, on the thing or on its like in another set
    "abacus", "bank", "banknote", "battery", "book", "books", "bookmark", "bus", "calendar", "card",
    "cards", "chart", "clapper", "clipboard", "coin", "computer", "convenience", "credit",
    "department", "disk", "dollar", "dvd", "e", "envelope", "fax", "file", "film", "fuel",
    "hospital", "hotel", "identification", "index", "jeans", "joker", "keyboard", "label", "ledger",
    "mahjong", "mail", "medal", "memo", "money", "musical", "newspaper", "notebook", "notepad",
    "office", "optical", "package", "page", "placard", "points", "police", "pool", "postbox",
    "pound", "printer", "racing", "radio", "receipt", "running", "school", "scroll", "shibuya",
    "shrine", "sign", "sleeping", "sleepy", "slot", "stop", "store", "symbols", "taxi", "ticket",
    "tickets", "trophy", "videocassette", "yen", "zzz",
    # Japanese writing, and clothes that close to one side
    "japanese", "kimono", "lantern", "martial", "sake", "sari", "tanabata", "wind",
    # places as they lie, and statues as they stand
    "americas", "asia", "europe", "globe", "japan", "map", "statue", "world",
}  # fmt: skip
_PLAIN = {"circle", "square", "diamond"}


def mirror_means_the_same(name: str, category: str) -> bool:
    """Whether the mirror image has the same caption; in doubt it has not.

    Of symbols, whose sides nearly always matter, only plain shapes do.

    Example:
        >>> [mirror_means_the_same(name, "Objects") for name in ("hammer", "left-luggage", "books")]
        [True, False, False]
        >>> [mirror_means_the_same(name, "Symbols") for name in ("red-circle", "radio-button")]
        [True, False]
    """
    words = set(name.split("-"))
    if words & _HANDED:
        return False
    return category != "Symbols" or (bool(words & _PLAIN) and "button" not in words)
