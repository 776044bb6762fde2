"""Model cards: what a model is, its files, and the defaults that fill a process's empty slots.

Data only, read from card.json or made from a released checkpoint's preset.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from sfumato.core.errors import SfumatoError
from sfumato.documents import read_json
from sfumato.models.files import cards


@dataclass(frozen=True)
class Defaults:
    """Fill empty slots when a run begins. methods: recipe entries, such as {"method": "cfg"}."""

    steps: int | None = None
    solver: str | Mapping[str, Any] | None = None
    spacing: str | None = None
    methods: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class StageCard:
    """One network of a model.

    network: UNetConfig fields; schedule and table: its noise table; kind: parametrisation;
    factor: how much larger its output is than its low_res input (1 for a base). training: recipe,
    steps, pictures, minutes and measures, as the trainer wrote them.
    """

    network: Mapping[str, Any]
    weights: tuple[str, ...]
    schedule: str
    kind: str = "eps"
    table: int = 1000
    learned_range: bool = False
    tokenizer: str | None = None
    factor: int = 1
    defaults: Defaults = field(default_factory=Defaults)
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClipCard:
    """A noised CLIP. network: CLIPConfig fields; parts: names of its halves and their files, or
    weights: files of the whole; schedule: its noise table, of network["steps"] entries."""

    network: Mapping[str, Any]
    tokenizer: str
    schedule: str
    weights: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CleanClipCard:
    """A CLIP of transformers: a folder beside the weights, else one that was pulled as `name`."""

    clean: str
    name: str


@dataclass(frozen=True)
class ClassifierCard:
    """A noise-aware classifier. network: UNetConfig fields; classes: the names in each softmax."""

    network: Mapping[str, Any]
    size: int
    pool: Literal["attention", "adaptive", "spatial", "spatial_v2"]
    classes: Mapping[str, tuple[str, ...]]
    weights: tuple[str, ...]
    tokenizer: str | None = None
    schedule: str = "squaredcos_cap_v2"
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """native: (width, height) of the base; multiple: sides it takes; maximum: longest work side.

    template: applied to a prompt that names none of `styles`. clip, classifier: the networks beside
    it, as training exports describe them; adapters: names and files.
    """

    name: str
    base: StageCard
    native: tuple[int, int]
    multiple: int
    maximum: int
    title: str = ""
    about: str = ""
    licence: str = ""
    template: str = "{prompt}"
    styles: tuple[str, ...] = ()
    defaults: Defaults = field(default_factory=Defaults)
    upsamplers: tuple[StageCard, ...] = ()
    clip: ClipCard | CleanClipCard | None = None
    classifier: ClassifierCard | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)

    def factor(self, stages: int) -> int:
        """Size of the result of so many stages over the base's."""
        return math.prod(stage.factor for stage in self.upsamplers[: stages - 1])

    def full_prompt(self, prompt: str) -> str:
        """The prompt with the card's template, unless it names a style, is empty, or has it."""
        return phrased(prompt, self.template, self.styles)

    def adapter_of(self, prompt: str) -> str | None:
        """The adapter whose name, words of a style, the prompt says; None where none is."""
        return next((name for name in self.adapters if mentions(prompt, name)), None)


def phrased(prompt: str, template: str, styles: Sequence[str]) -> str:
    """The prompt with the template, unless it names one of the styles, is empty, or has it."""
    low = prompt.lower()
    mentioned = (style in low or mentions(prompt, style) for style in styles)
    if not prompt.strip() or any(mentioned):
        return prompt
    before, _, after = template.partition("{prompt}")
    if before + after and prompt.startswith(before) and prompt.endswith(after):
        return prompt
    return f"{before}{prompt}{after}"


def mentions(prompt: str, words: str) -> bool:
    """Whether a part of the prompt has the words in their order: "ink drawing" in "ink line
    drawing", but not in "ink bottle, pencil drawing"."""
    patterns = [re.compile(rf"\b{re.escape(word)}\b") for word in words.lower().split()]
    return any(_in_order(part, patterns) for part in prompt.lower().split(","))


def _in_order(text: str, patterns: Sequence[re.Pattern[str]]) -> bool:
    """Whether each pattern is found behind the one before; one walk through the text."""
    end = 0
    for pattern in patterns:
        match = pattern.search(text, end)
        if match is None:
            return False
        end = match.end()
    return True


def read_card(folder: Path) -> Card:
    """The card of a model folder."""
    path = folder / "card.json"
    if not path.exists():
        raise SfumatoError(f"{folder}: no card.json, so this is not a model folder")
    document = read_json(cards.Card, path)
    return Card(
        **{
            **_fields(document),
            "base": _stage(document.base),
            "defaults": _defaults(document.defaults),
            "upsamplers": tuple(map(_stage, document.upsamplers)),
            "clip": None if document.clip is None else _clip(document.clip),
            "classifier": None if document.classifier is None else _classifier(document.classifier),
        }
    )


Part = Literal["base", "upsampler", "clip", "classifier"]


def read_part(path: Path, part: Part) -> StageCard | ClipCard | ClassifierCard:
    """A part of a card on its own, as training exports it."""
    if part == "clip":
        return _noised_clip(read_json(cards.Clip, path))
    if part == "classifier":
        return _classifier(read_json(cards.Classifier, path))
    return _stage(read_json(cards.Stage, path))


def _fields(document: BaseModel) -> dict[str, Any]:
    return {name: getattr(document, name) for name in type(document).model_fields}


def _defaults(document: cards.Defaults) -> Defaults:
    return Defaults(document.steps, document.solver, document.spacing, document.methods)


def _network(document: BaseModel) -> dict[str, Any]:
    return document.model_dump(exclude_unset=True)


def _stage(document: cards.Stage) -> StageCard:
    network, defaults = _network(document.network), _defaults(document.defaults)
    return StageCard(**{**_fields(document), "network": network, "defaults": defaults})


def _clip(document: cards.Clip | cards.CleanClip) -> ClipCard | CleanClipCard:
    if isinstance(document, cards.CleanClip):
        return CleanClipCard(document.clean, document.name)
    return _noised_clip(document)


def _noised_clip(document: cards.Clip) -> ClipCard:
    network, weights = _network(document.network), document.weights or ()
    return ClipCard(**{**_fields(document), "network": network, "weights": weights})


def _classifier(document: cards.Classifier) -> ClassifierCard:
    return ClassifierCard(**{**_fields(document), "network": _network(document.network)})
