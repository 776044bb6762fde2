"""Boundaries (arXiv 2302.08357): planes between inverted pictures with and without a property.

Pictures of two kinds, told apart by a word of their captions, are walked up to level t. In each of
two spaces, the state x and the bottleneck h there, a linear support vector machine is fitted:
its normal is a sum of the pictures' own vectors (its dual form), so few numbers are learned,

    0.5 decay |w|^2 + mean max(0, 1 - y (w.v + b)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from sfumato.methods.inner.planes import Plane, PushedBottleneck, PushedState
from sfumato.train import checkpoint
from sfumato.train.config import Config
from sfumato.train.frozen import Frozen, bottleneck
from sfumato.train.grids import tiled
from sfumato.train.reads import Reads
from sfumato.train.tuners import Outcome
from sfumato.train.values import Positive, part

READS = Reads(packed=True)
FILE = "boundary.safetensors"
SHOWN, ROWS = 8, 16


@part
class Options:
    """positive, negative: words of captions that tell the two kinds apart; a positive distance is
    towards the first. t: level of the push. steps: of the way up to it. pictures, tests: of each
    kind, learned from and held back. decay: pull on the normal."""

    positive: Annotated[str, Field(min_length=1, max_length=200)]
    negative: Annotated[str, Field(min_length=1, max_length=200)]
    t: Annotated[float, Field(gt=0, le=1)] = 0.5
    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    pictures: Annotated[int, Field(ge=2, le=100_000)] = 100
    tests: Annotated[int, Field(ge=1, le=100_000)] = 50
    decay: Positive = 1e-3


@dataclass(frozen=True)
class Cloud:
    """Vectors of one space: learned from (N, ...) and held back (M, ...); scale: their spread."""

    learned: Tensor
    held: Tensor
    mean: Tensor
    scale: float
    kernel: Tensor

    @classmethod
    def of(cls, vectors: Tensor, learned: int) -> Cloud:
        mean = vectors[:learned].mean(0)
        scale = float((vectors[:learned] - mean).std()) * mean.numel() ** 0.5
        rows = ((vectors - mean) / max(scale, 1e-12)).flatten(1)
        first = rows[:learned]
        return cls(first, rows[learned:], mean, max(scale, 1e-12), first @ first.T)


class Boundary:
    """Implements Tuner."""

    def __init__(self, config: Config, data: Path, folder: Path, device: str) -> None:
        self.config, self.own = config, config.part_of(Options)
        own = self.own
        self.base = Frozen(config, data, folder, device)
        process = self.base.way(own.steps)
        self.times = process.spaced(own.t)
        self.process = replace(process, spacing=self.times, n_steps=None)
        kinds = [self.found(word, other) for word, other in
                 ((own.positive, own.negative), (own.negative, own.positive))]  # fmt: skip
        n = own.pictures
        self.pixels = torch.cat([kind[:n] for kind in kinds] + [kind[n:] for kind in kinds])
        self.sides = torch.tensor([1.0] * n + [-1.0] * n, device=device)
        self.held = torch.tensor([1.0] * own.tests + [-1.0] * own.tests, device=device)
        x = torch.cat([self.walked(part) for part in torch.split(self.pixels, ROWS)])
        self.states = x
        self.clouds = {"x": Cloud.of(x, 2 * n), "h": Cloud.of(self.middles(x), 2 * n)}
        self.weights = {
            f"{space}.{name}": nn.Parameter(torch.zeros(count, device=device))
            for space in self.clouds
            for name, count in (("sums", 2 * n), ("bias", 1))
        }

    def found(self, word: str, other: str) -> Tensor:
        """Pictures whose captions say one word and not the other."""
        wanted = self.own.pictures + self.own.tests
        plans = self.base.spoken(word, wanted, f"boundary {word}", without=other)
        pixels = self.base.batches.pixels
        return torch.cat([pixels(plans[k : k + ROWS]) for k in range(0, wanted, ROWS)])

    def walked(self, pixels: Tensor) -> Tensor:
        """States at level t, by DDIM upwards."""
        return self.base.inverted(self.process, self.times, pixels).x

    def middles(self, x: Tensor) -> Tensor:
        """Bottlenecks there."""
        parts = torch.split(x, ROWS)
        process = self.process
        return torch.cat(
            [bottleneck(replace(process, n=len(part)), part, self.own.t) for part in parts]
        )

    def digests(self) -> dict[str, str]:
        return self.base.digests()

    def parameters(self) -> dict[str, nn.Parameter]:
        return self.weights

    def batch(self, step: int, share: slice) -> None:
        """All pictures at every step."""

    def loss(self, batch: None, step: int) -> Outcome:
        parts, total = {}, torch.zeros((), device=self.sides.device)
        for space, cloud in self.clouds.items():
            sums, bias = self.weights[f"{space}.sums"], self.weights[f"{space}.bias"]
            pulled = cloud.kernel @ sums
            hinge = (1 - self.sides * (pulled + bias)).clamp_min(0).mean()
            total = total + hinge + 0.5 * self.own.decay * (sums * pulled).sum()
            parts[f"hinge {space}"] = float(hinge.detach())
        return Outcome(total, parts)

    def judge(self) -> dict[str, float]:
        """Share of wrong sides, of what was learned from and of what was held back."""
        wrong = {}
        for space, cloud in self.clouds.items():
            for who, rows, sides in (
                ("train", cloud.learned, self.sides), ("held-out", cloud.held, self.held)
            ):  # fmt: skip
                said = rows @ self.normal(space) + self.weights[f"{space}.bias"]
                wrong[f"{who} wrong {space}"] = float((said * sides <= 0).float().mean())
        return {name: max(share, 1e-3) for name, share in wrong.items()}

    def normal(self, space: str) -> Tensor:
        """Of scaled vectors."""
        return self.weights[f"{space}.sums"] @ self.clouds[space].learned

    def planes(self) -> dict[str, Tensor]:
        """SPACE.normal of length 1, SPACE.offset and SPACE.spread, in the space's own units."""
        tensors = {"t": torch.tensor(self.own.t)}
        for space, cloud in self.clouds.items():
            w = self.normal(space).detach()
            length = float(w.norm()) or 1.0
            normal = (w / length).view(cloud.mean.shape)
            bias = float(self.weights[f"{space}.bias"].detach()) * cloud.scale / length
            offset = bias - float((normal * cloud.mean).sum())
            said = cloud.learned @ normal.flatten() * cloud.scale + bias
            tensors[f"{space}.normal"] = normal
            tensors[f"{space}.offset"] = torch.tensor(offset)
            tensors[f"{space}.spread"] = said.std().cpu()
        return tensors

    def show(self, file: Path) -> None:
        """Pictures of the second kind, found again, and pushed by three distances."""
        planes, n = self.planes(), self.own.tests
        x, pixels = self.states[-n:][:SHOWN], self.pixels[-n:][:SHOWN]
        rows, labels = [pixels, self.drawn(x, ())], ["true", "found again"]
        for distance in (-2.0, 2.0, 4.0):
            pushes = [
                Plane(planes[f"{space}.normal"], float(planes[f"{space}.offset"]),
                      distance * float(planes[f"{space}.spread"]))
                for space in ("x", "h")
            ]  # fmt: skip
            rows.append(self.drawn(x, pushes))
            labels.append(f"{distance:g}")
        checkpoint.put_picture(file, tiled(rows, labels=labels))

    def drawn(self, x: Tensor, pushes: Sequence[Plane]) -> Tensor:
        """The pictures at the end of a way down from states at level t."""
        process = self.process
        if pushes:
            state, middle = pushes
            process = process.add(
                guides=(PushedState(state, 0),), taps=(PushedBottleneck(middle, 0),)
            )
        return self.base.ended(process, x)

    def export(self, folder: Path, average: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
        """One file, with the two words in its header."""
        for name, value in average.items():
            self.weights[name].data.copy_(value)
        note = {"positive": self.own.positive, "negative": self.own.negative}
        checkpoint.write(folder / FILE, self.planes(), {**note, "training": dict(facts)})
        return folder / FILE


def tuner(config: Config, data: Path, folder: Path, device: str) -> Boundary:
    """What `tuner = "boundary"` in a recipe makes."""
    return Boundary(config, data, folder, device)
