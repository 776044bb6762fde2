"""What is packaged for measuring: held-out pictures, the prompts of prompt accuracy, the judges.

The held-out pictures are the test split of the packed set in three styles; no training saw them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.errors import SfumatoError, quoted
from sfumato.models.files.checkpoint import read_state_dict
from sfumato.nn.judge import Judge, JudgeConfig
from sfumato.train.data import store

HERE = Path(__file__).parent
PICTURES = HERE / "heldout"
JUDGED = {"3d render": "fluent", "ink drawing": "ink"}
"""Styles that have a packaged judge: what a prompt calls them, and their name in the packed set."""
STYLE = "3d render"
"""The style that is measured where none is asked for: the bundled card's own."""


def pictures(style: str = "fluent", size: int = 64) -> store.Store:
    """The held-out pictures of a style (fluent, flat, ink) at 64 px or a part of it, or 256 px."""
    return store.read(PICTURES, size=size, split="test", styles=[style])


@dataclass(frozen=True)
class Question:
    """A prompt of the accuracy test: a concept's key and label, and its class after merging."""

    key: str
    label: str
    twin: str


@cache
def questions() -> tuple[Question, ...]:
    """The 200 prompts, drawn once from the training concepts."""
    data = json.loads((HERE / "prompts.json").read_text(encoding="utf-8"))
    return tuple(Question(**row) for row in data)


def asked(n: int) -> tuple[Question, ...]:
    """The questions of n pictures: the first n, or all, for a number of pictures each."""
    every = questions()
    if not 5 <= n <= len(every) and (n < 5 or n % len(every)):
        raise SfumatoError(
            f"n = {n}: ask 5 to {len(every)} questions, or a multiple of {len(every)}, "
            "which asks each as often"
        )
    return every[:n]


@dataclass(frozen=True, eq=False)
class Bench:
    """A judge with what it says about real pictures of the same prompts.

    answers: column of each question's class; features (N, 64) and right (N, 2): its features of
    real pictures, and whether their class came first, and among the first five.
    """

    net: Judge
    answers: Tensor
    features: Tensor
    right: Tensor
    size: int

    @property
    def spread(self) -> Tensor:
        """Standard deviation of each feature over the real pictures, (64,)."""
        return self.features.std(0)

    def look(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, 64), and logits over the questions' classes, of pictures in [-1, 1]."""
        side = pixels.shape[-1]
        if side % self.size:
            pixels = F.interpolate(pixels, (self.size, self.size), mode="area")
        elif side != self.size:
            pixels = F.avg_pool2d(pixels, side // self.size)
        with torch.no_grad():
            features = self.net.features(pixels.float().cpu())
            logits = self.net.head(F.silu(features))
        return features, logits[:, self.answers]

    def hits(self, logits: Tensor, asked: Tensor) -> Tensor:
        """(B, 2): the asked class came first; it was among the first five."""
        best = self.answers[logits.topk(5).indices]
        hit = best == self.answers[asked][:, None]
        return torch.stack([hit[:, 0], hit.any(1)], dim=1)

    def shares(self, logits: Tensor, n: int) -> Tensor:
        """Of pictures (k n, C) that ask the first n questions k times in turn: for each question,
        how often its class came first, and among the first five, (n, 2)."""
        hits = self.hits(logits, torch.arange(len(logits)) % n)
        return hits.float().view(-1, n, 2).mean(0)


def judge(folder: Path, style: str) -> tuple[Judge, dict[str, Any]]:
    """A judge's network and what judge-STYLE.json says."""
    data = json.loads((folder / f"judge-{style}.json").read_text(encoding="utf-8"))
    net = Judge(JudgeConfig(**data["network"]))
    weights = read_state_dict([folder / name for name in data["weights"]])
    net.load_state_dict({name: value.float() for name, value in weights.items()})
    return net.eval().requires_grad_(False), data


@cache
def bench(style: str) -> Bench:
    """The judge of a style, by what prompts call it."""
    if style not in JUDGED:
        raise SfumatoError(f"style {quoted(style)}: no judge for it; there are {', '.join(JUDGED)}")
    name = JUDGED[style]
    net, data = judge(HERE / "judges", name)
    column = {key: k for k, key in enumerate(data["names"])}
    answers = torch.tensor([column[data["classes"][q.key]] for q in questions()])
    real = load_file(HERE / "judges" / f"real-{name}.safetensors")
    return Bench(net, answers, real["features"].float(), real["right"].bool(), int(data["size"]))
