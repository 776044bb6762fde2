"""Batches composed from the alpha channel: hues, backgrounds, pairs, places.

A plan is drawn from a key, so batch k of a recipe is the same whoever makes it and whenever; the
pixels of a whole batch are then made at once, on any device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.errors import SfumatoError
from sfumato.core.noise import keyed
from sfumato.train.data.captions import (
    BACKGROUNDS,
    COLOUR_WORDS,
    COLOURS,
    PLACES,
    RELATIONS,
    Scene,
    Thing,
    Wording,
    caption,
)
from sfumato.train.data.recolouring import recoloured
from sfumato.train.data.store import Concept, Store
from sfumato.train.values import NotNegative, Share, part

HELD_OUT_PAIRS = 20
"""Percent of (colour, concept) pairs that are never composed, so that combining can be tested."""


def _styles(styles: Any) -> Any:
    if not isinstance(styles, Mapping):
        if isinstance(styles, tuple):  # a program's
            return styles
        raise ValueError("must be a table of weights, such as {fluent = 2, ink = 1}")
    if styles and not any(styles.values()):
        raise ValueError("all weights are 0; give those that are wanted one")
    return tuple(sorted(styles.items()))


@part
class Mix:
    """How often a picture is changed in which way (probabilities), and how styles are weighted.

    small: one small thing in a named corner; jitter: unnamed small change of size and place.
    """

    hue: Share = 0.22
    background: Share = 0.18
    pair: Share = 0.12
    small: Share = 0.06
    jitter: Share = 0.2
    styles: Annotated[tuple[tuple[str, NotNegative], ...], BeforeValidator(_styles)] = ()


@dataclass(frozen=True)
class Layer:
    """A picture of the store and how it is laid: hue, then scale and shift (right, down).

    The shift is in half canvases, the scale in canvases.
    """

    row: int
    colour: str | None = None
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Plan:
    """One composed picture: layers from back to front, ground colour in [0, 255], its caption."""

    layers: tuple[Layer, ...]
    ground: tuple[float, float, float]
    scene: Scene
    caption: str


def combined(colour: str, concept: Concept) -> bool:
    """Whether training may show this thing in this colour; a fixed fifth of the pairs is kept."""
    name = " ".join(word for word in concept.label.split() if word not in COLOUR_WORDS)
    digest = int(sha256(f"{colour}|{name}".encode()).hexdigest(), 16)
    return digest % 100 >= HELD_OUT_PAIRS


class Composer:
    """Draws plans over a store and renders them."""

    def __init__(self, store: Store, mix: Mix, wording: Wording, seed: int = 0) -> None:
        self.store = store
        self.mix = mix
        self.wording = wording
        self.seed = seed
        rows: dict[str, list[int]] = {}
        for row, style in enumerate(store.styles):
            rows.setdefault(style, []).append(row)
        weights = dict(mix.styles) or {style: len(of_style) for style, of_style in rows.items()}
        if dict(mix.styles) and set(rows) == {""}:
            raise SfumatoError(
                "mix.styles: a folder of your own pictures has no styles; leave mix.styles out, as "
                "recipes/own-32.toml does"
            )
        if missing := sorted(set(weights) - set(rows)):
            raise SfumatoError(f"data: no pictures of style {', '.join(missing)}")
        self.rows = rows
        self.styles = sorted(weights)
        self.weights = [weights[style] for style in self.styles]
        spoken = {w for c in store.concepts for text in (c.label, *c.tags) for w in text.split()}
        self.words = tuple(sorted(spoken))

    def plans(self, step: int, n: int) -> list[Plan]:
        """The n plans of batch `step`."""
        rng = Random(keyed(f"{self.seed}/plan/{step}"))
        return [self.plan(rng) for _ in range(n)]

    def plan(self, rng: Random) -> Plan:
        mix = self.mix
        style = rng.choices(self.styles, self.weights)[0]
        rows = self.rows[style]
        background = rng.choice(sorted(BACKGROUNDS)) if rng.random() < mix.background else None
        kind = rng.random()
        place = relation = None
        if kind < mix.pair and style:
            relation = rng.choice(sorted(RELATIONS))
            layers = self._pair(rng.choice(rows), rng.choice(rows), relation, rng)
        elif kind < mix.pair + mix.small and style:
            place = rng.choice(sorted(PLACES))
            right, down = PLACES[place][1]
            scale, far = rng.uniform(0.4, 0.55), rng.uniform(0.38, 0.46)
            shift = (right * far, down * far)
            layers = (Layer(rng.choice(rows), self._hue(rng), scale, shift),)
        else:
            scale, shift = 1.0, (0.0, 0.0)
            if rng.random() < mix.jitter:
                scale = rng.uniform(0.75, 1.0)
                room = 1.05 - scale
                shift = (rng.uniform(-room, room), rng.uniform(-room, room))
            layers = (Layer(rng.choice(rows), self._hue(rng), scale, shift),)
        layers = tuple(self._allowed(layer) for layer in layers)
        things = tuple(Thing(self.store.concepts[la.row], la.colour) for la in layers)
        scene = Scene(things, style, background, place, relation)
        text = caption(scene, self.wording, self.words, rng)
        return Plan(layers, self._ground(background, rng), scene, text)

    def still(self, row: int) -> Plan:
        """A picture of the store as it is, on white, without a caption."""
        scene = Scene((Thing(self.store.concepts[row]),), self.store.styles[row])
        return Plan((Layer(row),), (255.0, 255.0, 255.0), scene, "")

    def _pair(self, first: int, second: int, relation: str, rng: Random) -> tuple[Layer, ...]:
        scale = rng.uniform(0.46, 0.52)
        away = rng.uniform(0.46, 0.5)
        shift = (-away, 0.0) if relation == "left of" else (0.0, -away)
        other = (-shift[0], -shift[1])
        return (
            Layer(first, self._hue(rng), scale, shift),
            Layer(second, self._hue(rng), scale, other),
        )

    def _hue(self, rng: Random) -> str | None:
        colour = rng.choice(sorted(COLOURS))
        return colour if rng.random() < self.mix.hue else None

    def _allowed(self, layer: Layer) -> Layer:
        """Without its hue where that pair is held out."""
        if layer.colour and not combined(layer.colour, self.store.concepts[layer.row]):
            return Layer(layer.row, None, layer.scale, layer.shift)
        return layer

    def _ground(self, name: str | None, rng: Random) -> tuple[float, float, float]:
        if name is None:
            return (255.0, 255.0, 255.0)
        red, green, blue = (
            min(255.0, max(0.0, v + rng.uniform(-14, 14))) for v in BACKGROUNDS[name][1]
        )
        return (red, green, blue)

    def render(self, plans: Sequence[Plan], size: int) -> Tensor:
        """Pictures (B, 3, size, size) float32 in [-1, 1]."""
        device = self.store.pixels.device
        ground = torch.tensor([plan.ground for plan in plans], device=device) / 255
        canvas = ground[:, :, None, None].expand(-1, -1, self.store.size, self.store.size).clone()
        for depth in range(max(len(plan.layers) for plan in plans)):
            chosen = [k for k, plan in enumerate(plans) if len(plan.layers) > depth]
            layers = [plans[k].layers[depth] for k in chosen]
            rgba = self._laid(layers)
            where = torch.tensor(chosen, device=device)
            canvas[where] = rgba[:, :3] + (1 - rgba[:, 3:]) * canvas[where]
        if size != self.store.size:
            canvas = F.avg_pool2d(canvas, self.store.size // size)
        return canvas.clamp(0, 1) * 2 - 1

    def _laid(self, layers: Sequence[Layer]) -> Tensor:
        """(B, 4, S, S) premultiplied, recoloured and moved."""
        device = self.store.pixels.device
        rows = torch.tensor([layer.row for layer in layers], device=device)
        rgba = self.store.pixels[rows].float() / 255
        tinted = [k for k, layer in enumerate(layers) if layer.colour]
        if tinted:
            where = torch.tensor(tinted, device=device)
            names = [str(layers[k].colour) for k in tinted]
            rgba[where] = recoloured(rgba[where], names)
        moved = [k for k, la in enumerate(layers) if la.scale != 1 or la.shift != (0.0, 0.0)]
        if moved:
            where = torch.tensor(moved, device=device)
            theta = torch.tensor(
                [
                    [
                        [1 / layers[k].scale, 0, -layers[k].shift[0] / layers[k].scale],
                        [0, 1 / layers[k].scale, -layers[k].shift[1] / layers[k].scale],
                    ]
                    for k in moved
                ],
                device=device,
            )
            grid = F.affine_grid(theta, list(rgba[where].shape), align_corners=False)
            rgba[where] = F.grid_sample(rgba[where], grid, align_corners=False)
        return rgba
