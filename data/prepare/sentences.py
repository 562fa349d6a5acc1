"""English sentences for the synthetic voices, from a small grammar: millions of them, and no text of anybody else's.

They make sense the way a nonsense rhyme does. What matters is that they hold all sounds of English, that no two
utterances are likely to be alike, and that the sentences of the training, dev and test sets never meet: which set a
sentence belongs to follows from a hash of its words, so it is the same whatever the seed.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator

SPLITS = ("train", "dev", "test")
_WORDS = (7, 23)  # about two to eight seconds

_NAMES = """Martha Oliver Judith Edgar Beatrice Hugo Yvonne Walter Sheila Jonah Theodore Priscilla Gilbert Rosie
Vincent Charlotte Zachary Naomi Douglas Ursula""".split()
_PEOPLE = """gardener fisherman teacher baker doctor sailor neighbour tailor painter judge shepherd dancer farmer cook
pilot nurse captain student lawyer miner jeweller librarian plumber violinist postman builder waitress mayor watchman
cousin uncle daughter nephew stranger visitor""".split()
_CREATURES = "fox goose donkey puppy parrot goat kitten pony hedgehog raven".split()
_THINGS = """basket ladder kettle lantern blanket violin bicycle jacket hammer barrel candle mirror suitcase pillow
teapot bucket letter picture notebook umbrella clock carpet shovel telescope whistle bottle cushion saddle drum trolley
treasure garage yoghurt pie garden chair jar wheel fence boat envelope magazine vase orange turnip sausage pudding
necklace sweater scarf button map coin trumpet""".split()
_PLACES = """river market harbour station kitchen orchard chapel bridge library meadow lighthouse stable castle bakery
theatre village forest workshop museum cellar valley mountain beach vineyard factory tower courtyard warehouse mill
playground hospital windmill""".split()
_OF_PEOPLE = """old young quiet cheerful clever stubborn tall gentle nervous patient grumpy honest sleepy thoughtful
famous lonely curious generous shy jolly weary brave""".split()
_OF_THINGS = """broken yellow heavy wooden silver enormous dusty purple smooth cheap ancient golden narrow empty
precious shiny crooked green leather rusty fragile beige square usual foreign thick rosy tiny white velvet""".split()
# Base and past form. Only verbs whose participle equals the past form, so that "had" and "was" can precede it.
_VERBS = {
    base: past
    for base, past in (
        pair.split(":")
        for pair in """carry:carried paint:painted find:found sell:sold repair:repaired buy:bought bring:brought
        clean:cleaned open:opened borrow:borrowed describe:described admire:admired collect:collected polish:polished
        measure:measured count:counted watch:watched photograph:photographed pack:packed move:moved cover:covered
        notice:noticed offer:offered wash:washed push:pushed build:built lose:lost keep:kept examine:examined
        deliver:delivered exchange:exchanged destroy:destroyed unearth:unearthed value:valued fetch:fetched
        crush:crushed join:joined pull:pulled leave:left""".split()
    )
}
_WHERE = "near:behind:beside:across from:in front of:not far from:on the way to:outside".split(":")
_WHEN = """on Monday/on Thursday morning/last winter/before breakfast/after the storm/at midnight/during the summer/
a week ago/early in the evening/at the end of July/just before sunrise/every other Friday/in the middle of June/
shortly after lunch/one rainy afternoon/before the guests arrived""".replace("\n", "").split("/")
_HOW = """slowly/carefully/without hesitation/very quietly/rather quickly/in a hurry/as usual/for no reason at all/
with great pleasure/once again/by mistake/without any help""".replace("\n", "").split("/")
_JOINED = ["and", "but", "while", "because", "so", "although", "and then"]
_NUMBERS = "two three four five six seven eight nine ten eleven twelve thirteen twenty".split()

# What stands in braces is replaced by one of its expansions, again and again, until no brace is left.
_RULES = {
    "who": ["{name}", "the {person}", "the {of_person} {person}", "my {of_person} {person}", "a {of_person} {person}",
            "our {person}", "the {person} from the {place}", "her {creature}", "the {of_person} {creature}"],
    "what": ["the {thing}", "a {of_thing} {thing}", "the {of_thing} {thing}", "{number} {of_thing} {thing}s",
             "his {of_thing} {thing}", "their {thing}", "{number} {thing}s", "the {thing} and the {thing}"],
    "where": ["{preposition} the {place}", "{preposition} the {of_thing} {place}", "in the {place}"],
    "did": ["{past} {what}", "{past} {what} {where}", "{past} {what} {when}", "{past} {what} {how}"],
    "sentence": [
        "{who} {past} {what} {where}.",
        "{who} {past} {what} {where} {when}.",
        "{when}, {who} {past} {what} {where}.",
        "{who} {did}, {joined} {who} {did}.",
        "{who} {did}, {joined} {who} {past} {what} {where}.",
        "did {who} {base} {what} {where}?",
        "why did {who} {base} {what} {when}?",
        "there was a {of_thing} {thing} {where}, and nobody knew that {who} had {past} it.",
        "{who} said that {who} had {past} {what} {how}.",
        "{who} wanted to {base} {what}, {joined} {who} {did}.",
        "please {base} {what} {where} before you {base} {what}.",
        "{who} {past} {what}.",
        "has {who} {past} the {thing}?",
        "somebody had {past} {what} {when}.",
        "the {thing} was {past} by {who} {when}.",
        "{who} couldn't {base} {what}, because {who} had {past} {what}.",
        "I think {who} should {base} {what} {where}.",
        "we never {past} {what}, and we won't {base} {what} either.",
        "{who} and {who} {past} {what} {how}.",
    ],
    "name": _NAMES, "person": _PEOPLE, "creature": _CREATURES, "thing": _THINGS, "place": _PLACES,
    "of_person": _OF_PEOPLE, "of_thing": _OF_THINGS, "preposition": _WHERE, "when": _WHEN, "how": _HOW,
    "base": list(_VERBS), "past": list(_VERBS.values()), "joined": _JOINED, "number": _NUMBERS,
}  # fmt: skip


def sentences(split: str, seed: str) -> Iterator[str]:
    """An endless stream of different sentences of one set, the same for the same ``seed``.

    Raises:
        ValueError: ``split`` is none of train, dev and test.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    rng = random.Random(seed)
    seen = set()
    while True:
        text = _expand("{sentence}", rng)
        fits = _WORDS[0] <= len(text.split()) <= _WORDS[1]
        if fits and split_of(text) == split and text not in seen:
            seen.add(text)
            yield text


def split_of(text: str) -> str:
    """The set that a sentence belongs to: eight of ten are for training."""
    digest = hashlib.blake2b(transcript(text).encode(), digest_size=8).digest()
    return {0: "dev", 1: "test"}.get(int.from_bytes(digest) % 10, "train")


def transcript(text: str) -> str:
    """The sentence as LibriSpeech writes it: capitals, no punctuation but the apostrophe."""
    return " ".join(re.sub(r"[^A-Z' ]", " ", text.upper()).split())


def _expand(text: str, rng: random.Random) -> str:
    while (start := text.find("{")) >= 0:
        end = text.index("}", start)
        text = text[:start] + rng.choice(_RULES[text[start + 1 : end]]) + text[end + 1 :]
    text = re.sub(r"\ba (?=[aeio]|u(?!sual))(?=\w)|\ba (?=honest)", "an ", text)  # "an old", but "a usual"
    return text[0].upper() + text[1:]
