"""Model cards: what a model is, its files, and the defaults that fill a process's empty slots.

Data only, read from card.json or made from a released checkpoint's preset.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfumato.core.errors import SfumatoError


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
    clip: Mapping[str, Any] | None = None
    classifier: Mapping[str, Any] | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)

    def factor(self, stages: int) -> int:
        """Size of the result of so many stages over the base's."""
        return math.prod(stage.factor for stage in self.upsamplers[: stages - 1])

    def full_prompt(self, prompt: str) -> str:
        """The prompt with the card's template, unless it names a style, is empty, or has it."""
        low = prompt.lower()
        named = (style in low or says(prompt, style) for style in self.styles)
        if not prompt.strip() or any(named):
            return prompt
        before, _, after = self.template.partition("{prompt}")
        if before + after and prompt.startswith(before) and prompt.endswith(after):
            return prompt
        return f"{before}{prompt}{after}"

    def adapter_of(self, prompt: str) -> str | None:
        """The adapter whose name, words of a style, the prompt says; None where none is."""
        return next((name for name in self.adapters if says(prompt, name)), None)


def says(prompt: str, words: str) -> bool:
    """Whether a part of the prompt has the words in their order: "ink drawing" in "ink line
    drawing", but not in "ink bottle, pencil drawing"."""
    wanted = [re.compile(rf"\b{re.escape(word)}\b") for word in words.lower().split()]
    return any(_in_order(part, wanted) for part in prompt.lower().split(","))


def _in_order(text: str, wanted: Sequence[re.Pattern[str]]) -> bool:
    """Whether each pattern is found behind the one before; one walk through the text."""
    end = 0
    for pattern in wanted:
        found = pattern.search(text, end)
        if found is None:
            return False
        end = found.end()
    return True


def read(folder: Path) -> Card:
    """The card of a model folder."""
    path = folder / "card.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        data["base"] = _stage(data["base"])
        data["upsamplers"] = tuple(_stage(stage) for stage in data.get("upsamplers", ()))
        data["defaults"] = _defaults(data.get("defaults", {}))
        for name in ("native", "styles"):
            data[name] = tuple(data.get(name, ()))
        return Card(**data)
    except FileNotFoundError:
        raise SfumatoError(f"{folder}: no card.json, so this is not a model folder") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SfumatoError(f"{path}: not a valid model card ({error})") from None


def _stage(data: Mapping[str, Any]) -> StageCard:
    values = dict(data)
    values["weights"] = tuple(values["weights"])
    values["defaults"] = _defaults(values.get("defaults", {}))
    return StageCard(**values)


def _defaults(data: Mapping[str, Any]) -> Defaults:
    values = dict(data)
    values["methods"] = tuple(values.get("methods", ()))
    return Defaults(**values)
