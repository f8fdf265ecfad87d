"""What the synthetic pictures can show, and the words that people tag with."""

from collections.abc import Iterator
from itertools import chain, zip_longest
from types import MappingProxyType

import numpy as np

from training.errors import DataError

MIN_TAGS = 16
"""Below this, some scene would have no word at all."""

CONCEPTS = MappingProxyType(
    {
        "sky": ("sky", "skies", "heaven", "horizon"),
        "night": ("night", "nighttime", "dark", "evening"),
        "sea": ("sea", "ocean", "water", "waves"),
        "city": ("city", "urban", "skyline", "downtown"),
        "field": ("field", "grass", "meadow", "countryside"),
        "forest": ("forest", "woods", "woodland", "wilderness"),
        "mountain": ("mountain", "mountains", "peak", "hiking"),
        "snow": ("snow", "winter", "snowy", "cold"),
        "house": ("house", "home", "village", "cottage"),
        "desert": ("desert", "dunes", "arid"),
        "flower": ("flower", "flowers", "blossom", "bloom"),
        "portrait": ("portrait", "face", "studio"),
        "sunset": ("sunset", "sundown", "dusk", "twilight"),
        "lake": ("lake", "reflection", "pond", "lakeside"),
        "beach": ("beach", "sand", "coast", "shore"),
        "tree": ("tree", "trees", "leaves", "branches"),
        "clouds": ("clouds", "cloud", "cloudy"),
        "sun": ("sun", "sunshine", "sunlight"),
        "bw": ("blackandwhite", "bw", "monochrome", "mono"),
        "landscape": ("landscape", "nature", "scenery", "outdoors"),
        "person": ("person", "people", "girl", "human"),
        "cat": ("cat", "kitty", "kitten", "feline"),
        "dog": ("dog", "puppy", "pet", "canine"),
        "bird": ("bird", "birds", "wildlife", "flying"),
        "boat": ("boat", "sailing", "sailboat", "ship"),
        "building": ("building", "architecture", "buildings", "skyscraper"),
        "blue": ("blue", "azure", "bluesky"),
        "green": ("green", "verde", "lush"),
        "orange": ("orange", "golden", "warm", "glow"),
        "stars": ("stars", "starry", "astronomy"),
        "moon": ("moon", "fullmoon", "luna", "moonlight"),
        "car": ("car", "auto", "automobile", "vehicle"),
        "road": ("road", "street", "traffic"),
        "palm": ("palm", "palmtree", "tropical"),
        "macro": ("macro", "closeup", "bokeh", "detail"),
        "horse": ("horse", "horses", "pony", "equine"),
        "sheep": ("sheep", "lamb", "farm", "wool"),
        "friends": ("friends", "group", "crowd", "together"),
        "balloon": ("balloon", "hotairballoon", "balloons"),
        "umbrella": ("umbrella", "parasol", "seaside"),
        "autumn": ("autumn", "fall", "foliage"),
        "rainbow": ("rainbow", "colorful", "colours"),
    }
)
"""Concept to its synonyms. The first words say at least one thing about any scene, in this order, down to MIN_TAGS."""

INTERESTS = MappingProxyType(
    {
        "sky": ("sky", "clouds", "sun", "sunset", "rainbow"),
        "night": ("night", "stars", "moon"),
        "water": ("sea", "beach", "lake", "boat", "umbrella"),
        "land": ("mountain", "snow", "desert", "field", "landscape"),
        "plants": ("tree", "forest", "palm", "flower", "autumn"),
        "town": ("city", "building", "house", "road", "car"),
        "animals": ("bird", "dog", "cat", "horse", "sheep"),
        "people": ("person", "friends", "portrait", "balloon"),
        "colour": ("blue", "green", "orange", "bw", "macro"),
    }
)
"""What someone who looks at one of these tends to look at too. Every concept is in exactly one."""

CAMERAS = (
    ("nikon", "d90"),
    ("canon", "eos"),
    ("iphone", "mobile"),
    ("sony", "alpha"),
    ("fuji", "x100"),
    ("olympus", "penf"),
    ("pentax", "k5"),
    ("leica", "m9"),
)
EXPRESSIONS = ("love", "beautiful", "fun", "wow", "cute", "amazing", "happy", "awesome", "cool", "favorite", "dream")
STYLES = ("hdr", "photography", "film", "square", "35mm", "longexposure", "explore", "wideangle", "art", "vintage")
TIMES = ("2009", "summer", "2010", "holiday", "weekend", "2008", "spring", "vacation", "2011", "morning", "july")
PLACES = (
    ("california", "usa"),
    ("london", "england"),
    ("paris", "france"),
    ("tokyo", "japan"),
    ("barcelona", "spain"),
    ("berlin", "germany"),
    ("toronto", "canada"),
    ("rome", "italy"),
    ("sydney", "australia"),
    ("lisbon", "portugal"),
    ("oslo", "norway"),
    ("istanbul", "turkey"),
)
COORDINATES = (
    (-118.24, 34.05),
    (-0.13, 51.51),
    (2.35, 48.86),
    (139.69, 35.69),
    (2.17, 41.39),
    (13.40, 52.52),
    (-79.38, 43.65),
    (12.50, 41.90),
    (151.21, -33.87),
    (-9.14, 38.72),
    (10.75, 59.91),
    (28.98, 41.01),
)
"""Longitude and latitude of each of PLACES, or of its largest city."""
OCCASIONS = ("travel", "trip", "family", "birthday", "wedding", "party", "music", "food", "walk", "garden", "park")
COLOURS = ("color", "red", "white", "black", "yellow", "pink", "brown")
MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "august",
    "september",
    "october",
    "november",
    "december",
)
YEARS = ("2005", "2006", "2007", "2012", "2013", "2014")

_ONSETS = ("b", "br", "d", "f", "g", "gr", "h", "k", "kl", "l", "m", "n", "p", "r", "s", "st", "t", "tr", "v", "w", "z")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "ou")
_ENDINGS = ("", "", "n", "r", "s", "ton", "ville", "berg", "field", "mouth")
_TAIL_SEED = 20170424


def build_vocabulary(n: int = 1540) -> tuple[str, ...]:
    """`n` unique tags, the most important first, so that a smaller vocabulary is the start of a larger one.

    Real words come first; the rest are invented place names. Raises DataError below MIN_TAGS.
    """
    if n < MIN_TAGS:
        raise DataError(f"{n} tags: expected at least {MIN_TAGS}, so that every picture has one")
    unique: dict[str, None] = {}
    for word in chain(_real_words(), _place_names()):
        unique[word] = None
        if len(unique) == n:
            break
    return tuple(unique)


def _real_words() -> Iterator[str]:
    first, *others = zip_longest(*CONCEPTS.values())
    habits = (chain(*CAMERAS), EXPRESSIONS, STYLES, TIMES, chain(*PLACES))
    mixed = [word for row in zip_longest(*habits) for word in row if word]
    yield from first
    yield from mixed[:20]
    yield from (word for row in others for word in row if word)
    yield from mixed[20:]
    yield from chain(OCCASIONS, COLOURS, MONTHS, YEARS)


def _place_names() -> Iterator[str]:
    rng = np.random.default_rng(_TAIL_SEED)
    while True:
        syllables = "".join(str(rng.choice(_ONSETS)) + str(rng.choice(_VOWELS)) for _ in range(rng.integers(2, 4)))
        yield syllables + _ENDINGS[rng.integers(len(_ENDINGS))]
