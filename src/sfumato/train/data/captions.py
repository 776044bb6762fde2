"""Captions of composed pictures, in English and Korean, worded so that words combine.

What is shown is decided in compose.py; here it becomes a sentence. All draws come from the given
random.Random.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from sfumato.train.data.store import STYLES, Concept
from sfumato.train.values import Share, part

COLOURS: dict[str, tuple[str, float, float, float]] = {
    # Korean, then hue in degrees, factor on saturation, lift of the value towards 1
    "red": ("빨간", 0, 1.0, 0.0),
    "orange": ("주황", 28, 1.0, 0.0),
    "yellow": ("노란", 52, 1.0, 0.3),
    "green": ("초록", 125, 0.9, 0.0),
    "teal": ("청록", 178, 0.9, 0.0),
    "blue": ("파란", 218, 1.0, 0.0),
    "purple": ("보라", 275, 0.9, 0.0),
    "pink": ("분홍", 330, 0.6, 0.6),
}
"""Named hues of things."""

BACKGROUNDS: dict[str, tuple[str, tuple[int, int, int]]] = {
    "black": ("검은", (24, 24, 28)),
    "grey": ("회색", (150, 150, 154)),
    "red": ("빨간", (214, 62, 58)),
    "orange": ("주황", (245, 158, 66)),
    "yellow": ("노란", (250, 224, 96)),
    "green": ("초록", (96, 180, 92)),
    "teal": ("청록", (70, 178, 178)),
    "blue": ("파란", (84, 138, 228)),
    "purple": ("보라", (156, 100, 204)),
    "pink": ("분홍", (246, 170, 196)),
}
"""Named backgrounds, RGB; nothing named is white."""

PLACES: dict[str, tuple[str, tuple[float, float]]] = {
    "in the top left": ("왼쪽 위", (-1, -1)),
    "in the top right": ("오른쪽 위", (1, -1)),
    "in the bottom left": ("왼쪽 아래", (-1, 1)),
    "in the bottom right": ("오른쪽 아래", (1, 1)),
}
"""Corners that a small thing can sit in: Korean, and the direction (right, down)."""

RELATIONS: dict[str, str] = {"left of": "왼쪽에", "above": "위에"}
"""How the first of two things lies to the second."""

COLOUR_WORDS = {*COLOURS, "brown", "black", "white", "grey"}


@dataclass(frozen=True)
class Thing:
    """A concept, maybe in another colour."""

    concept: Concept
    colour: str | None = None


@dataclass(frozen=True)
class Scene:
    """What a caption has to say. place: of a small single thing; relation: of two things."""

    things: tuple[Thing, ...]
    style: str
    background: str | None = None
    place: str | None = None
    relation: str | None = None


@part
class Wording:
    """How often captions are worded in which way (probabilities).

    empty: no caption, for guidance; tags: tags stand for the label; extra: tags beside the label;
    korean; plain: no style named; nonsense: words that do not belong to the picture, so that
    unknown words mean nothing instead of something wrong.
    """

    empty: Share = 0.12
    tags: Share = 0.2
    extra: Share = 0.15
    korean: Share = 0.12
    plain: Share = 0.05
    nonsense: Share = 0.05


def caption(scene: Scene, wording: Wording, words: tuple[str, ...], rng: Random) -> str:
    """One caption of the scene; `words` is the vocabulary that nonsense is drawn from."""
    if rng.random() < wording.empty:
        return ""
    if rng.random() < wording.nonsense:
        subject = " ".join(rng.choices(words, k=rng.randint(1, 3)))
        return _joined(subject, scene, rng.random() < wording.plain, korean=False, rng=rng)
    korean = rng.random() < wording.korean and all(thing.concept.label_ko for thing in scene.things)
    named = [_thing(thing, wording, korean, rng) for thing in scene.things]
    if scene.relation and korean:
        subject = f"{named[1]} {RELATIONS[scene.relation]} {named[0]}"
    elif scene.relation:
        subject = f"{named[0]} {scene.relation} {named[1]}"
        if rng.random() < 0.3:
            subject = f"{named[0]} and {named[1]}"
    else:
        subject = named[0]
    if scene.place and korean:
        subject = f"{PLACES[scene.place][0]} 작은 {subject}"
    elif scene.place:
        subject = f"small {subject} {scene.place}"
    return _joined(subject, scene, rng.random() < wording.plain, korean, rng)


def _thing(thing: Thing, wording: Wording, korean: bool, rng: Random) -> str:
    concept = thing.concept
    label, tags = concept.label, concept.tags
    if korean:
        label, tags = concept.label_ko, concept.tags_ko
    if tags and rng.random() < wording.tags:
        label = " ".join(rng.sample(tags, k=min(len(tags), rng.choice((1, 2, 2, 3)))))
    elif tags and rng.random() < wording.extra:
        label = f"{label} {rng.choice(tags)}"
    if thing.colour is None:
        return label
    if korean:
        return f"{COLOURS[thing.colour][0]} {label}"
    bare = [word for word in label.split() if word not in COLOUR_WORDS]
    return " ".join([thing.colour, *(bare or concept.label.split()[-1:])])


def _joined(subject: str, scene: Scene, plain: bool, korean: bool, rng: Random) -> str:
    """Subject, style, background in one of a few orders."""
    english, hangul = STYLES.get(scene.style, ("", ""))
    style = hangul if korean else english
    background = ""
    if scene.background:
        name = BACKGROUNDS[scene.background][0]
        background = f"{name} 배경" if korean else f"{scene.background} background"
    if style and not plain and not korean and rng.random() < 0.1:
        parts = [f"{style} of {subject}", background]
    else:
        parts = [subject, "" if plain else style, background]
    return ", ".join(part for part in parts if part)
