"""The judge of prompt accuracy: which concept a clean picture shows, learned from other styles.

Twins, concepts whose pictures can hardly be told apart, are one class (`merged`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.noise import keyed
from sfumato.nn.judge import Judge, JudgeConfig
from sfumato.train import checkpoint, networks
from sfumato.train.batches import Batches
from sfumato.train.config import Config
from sfumato.train.data import store
from sfumato.train.data.captions import Wording
from sfumato.train.data.compose import Composer, Mix
from sfumato.train.grids import listed
from sfumato.train.reads import Reads
from sfumato.train.tuners import Outcome

READS = Reads(packed=True, network=True)
TWIN = 0.045
"""Mean absolute difference, in [0, 1], below which two pictures of one style are twins."""


def merged(pictures: store.Store) -> dict[str, str]:
    """Concept key -> key of its class: twins in pixels, in all the styles that both have, at 16 px.

    A class is named by the first key of the group.
    """
    keys = sorted({concept.key for concept in pictures.concepts})
    where = {key: k for k, key in enumerate(keys)}
    n = len(keys)
    apart, shared = torch.zeros(n, n), torch.zeros(n, n)
    for style in sorted(set(pictures.styles)):
        rows = [row for row, name in enumerate(pictures.styles) if name == style]
        pixels = _small(pictures, rows)
        at = torch.tensor([where[pictures.concepts[row].key] for row in rows])
        distance = torch.cdist(pixels, pixels, p=1) / pixels.shape[1]
        apart[at[:, None], at[None, :]] += distance
        shared[at[:, None], at[None, :]] += 1
    alike = (shared > 0) & (apart / shared.clamp_min(1) < TWIN)
    parents = list(range(n))
    for a, b in alike.nonzero().tolist():
        low, high = sorted((_root(parents, a), _root(parents, b)))
        parents[high] = low
    return {key: keys[_root(parents, k)] for key, k in where.items()}


def _root(parents: list[int], k: int) -> int:
    while parents[k] != k:
        k = parents[k]
    return k


def _small(pictures: store.Store, rows: Sequence[int]) -> Tensor:
    still = Mix(hue=0, background=0, pair=0, small=0, jitter=0)
    plain = Composer(pictures, still, Wording())
    return (plain.render([plain.still(row) for row in rows], 16).flatten(1) + 1) / 2


@dataclass(frozen=True)
class Batch:
    """Pictures and their classes."""

    x: Tensor
    label: Tensor


class JudgeTuner:
    """Implements Tuner. The tests are the style that will be judged: `data.judged`."""

    def __init__(self, config: Config, data: Path, folder: Path, device: str) -> None:
        self.config, self.device = config, device
        self.batches = Batches(config, data, folder, device)
        chosen = config.data
        everything = store.read(data, size=chosen.size, split=chosen.split, without=chosen.without)
        self.classes = merged(everything)
        self.names = sorted(set(self.classes.values()))
        self.index = {name: k for k, name in enumerate(self.names)}
        judged = [k for k, s in enumerate(everything.styles) if s == config.data.judged]
        still = Composer(everything, Mix(0, 0, 0, 0, 0), Wording())
        self.real = still.render([still.still(row) for row in judged], config.data.size).to(device)
        self.truth = torch.tensor([self.label(everything.concepts[k]) for k in judged])
        self.labels = [everything.concepts[k].label for k in judged]
        table = {**config.model.network, "classes": len(self.names)}
        shape = networks.described(JudgeConfig, table)
        self.net = networks.initialised(lambda: Judge(shape), config.run.seed).to(device).train()

    def label(self, concept: store.Concept) -> int:
        return self.index[self.classes[concept.key]]

    def digests(self) -> dict[str, str]:
        return self.batches.digests()

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.net.named_parameters())

    def batch(self, step: int, share: slice) -> Batch:
        plans = self.batches.plans(step, share)
        x = self.batches.pixels(plans)
        rng = self.batches.rng("lines", step)
        drawn = [rng.random() < self.config.data.lines for _ in range(self.config.optim.batch)]
        x = torch.where(torch.tensor(drawn[share])[:, None, None, None].to(x.device), lines(x), x)
        noise = self.batches.randn((self.config.optim.batch, *x.shape[1:]), "noise", step)[share]
        labels = [self.label(plan.scene.things[0].concept) for plan in plans]
        return Batch(x + 0.05 * noise, torch.tensor(labels, device=self.device))

    def loss(self, batch: Batch, step: int) -> Outcome:
        torch.manual_seed(keyed(f"{self.config.run.seed}/dropout/{step}"))
        logits = self.net(batch.x)
        total = F.cross_entropy(logits, batch.label, label_smoothing=0.1)
        wrong = (logits.argmax(1) != batch.label).float().mean()
        return Outcome(total, {"wrong": float(wrong)})

    def judge(self) -> dict[str, float]:
        """Errors on real pictures of the style that it will judge and has never seen."""
        self.net.eval()
        best = torch.cat(
            [self.net(part).topk(5).indices.cpu() for part in torch.split(self.real, 256)]
        )
        self.net.train()
        hit = best == self.truth[:, None]
        one, five = hit[:, 0].float().mean(), hit.any(1).float().mean()
        return {"real wrong top 1": float(1 - one), "real wrong top 5": float(1 - five)}

    def show(self, file: Path) -> None:
        """Real pictures, what they are, and what the judge takes them for."""
        self.net.eval()
        predicted = self.net(self.real[:160:10]).argmax(1).tolist()
        self.net.train()
        first: dict[int, str] = {}
        for concept in self.batches.composer.store.concepts:
            first.setdefault(self.label(concept), concept.label)
        texts = [
            f"{label}: {first.get(k, '?')}"
            for label, k in zip(self.labels[:160:10], predicted, strict=True)
        ]
        checkpoint.put_picture(file, listed(self.real[:160:10], texts))

    def export(self, folder: Path, average: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
        """Shards in float16 and judge.json with the class of every concept."""
        half = {name: tensor.half() for name, tensor in average.items()}
        stem = f"judge-{self.config.data.judged}"
        entry = {
            "network": asdict(self.net.config),
            "size": self.config.data.size,
            "judged": self.config.data.judged,
            "weights": checkpoint.write_shards(folder, stem, half),
            "names": self.names,
            "classes": self.classes,
            "training": dict(facts),
        }
        checkpoint.put_text(folder / f"{stem}.json", json.dumps(entry))
        return folder


def lines(x: Tensor) -> Tensor:
    """Pictures as dark lines on white: edges of brightness, thickened; (B, 3, S, S) in [-1, 1]."""
    grey = (x.mean(1, keepdim=True) + 1) / 2
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    edge = (across.square() + down.square()).sqrt()
    dark = (grey < 0.35).float()
    ink = torch.maximum((3 * edge).clamp(0, 1), dark)
    return (1 - 2 * ink).expand_as(x)


def tuner(config: Config, data: Path, folder: Path, device: str) -> JudgeTuner:
    """What `tuner = "judge"` in a recipe makes."""
    return JudgeTuner(config, data, folder, device)
