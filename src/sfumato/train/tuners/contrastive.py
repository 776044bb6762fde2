"""Noised CLIP: pictures at random noise levels and their captions (GLIDE, arXiv 2112.10741).

The symmetric cross-entropy over a batch (CLIP, arXiv 2103.00020), with the base's noise schedule.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.schedule import named
from sfumato.nn.clip import CLIPConfig, NoisedCLIP
from sfumato.train import checkpoint, networks, warm_start
from sfumato.train.batches import Batches, TestSet
from sfumato.train.config import Config
from sfumato.train.grids import listed
from sfumato.train.objective import column
from sfumato.train.tuners import Outcome

LEVELS = (0.001, 0.375, 0.75)


@dataclass(frozen=True)
class Batch:
    """Noisy pictures x (B, 3, S, S), table indices, tokens and their counts."""

    x: Tensor
    index: Tensor
    tokens: Tensor
    lengths: Tensor


class Contrastive:
    """Implements Tuner."""

    def __init__(self, config: Config, data: Path, folder: Path, device: str) -> None:
        self.config, self.device = config, device
        self.batches = Batches(config, data, folder, device)
        shape = networks.described(CLIPConfig, config.model.network)
        net = networks.initialised(lambda: NoisedCLIP(shape), config.run.seed)
        self.base: dict[str, str] = {}
        if config.model.start:
            weights, _ = warm_start.earlier(config.model.start, "clip")
            self.base = warm_start.digests(weights)
            warm_start.adopt(net, weights)
        self.net = net.to(device).train()
        self.schedule = named(config.model.schedule, config.model.table)
        self.prompts = self.batches.prompts(shape.context, shape.vocabulary)

    def digests(self) -> dict[str, str]:
        return self.batches.digests(words=True) | self.base

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.net.named_parameters())

    def batch(self, step: int, share: slice) -> Batch:
        n = self.config.optim.batch
        plans = self.batches.plans(step, share)
        rng = self.batches.rng("times", step)
        times = [t for t, _ in self.config.objective.times(n, self.schedule, rng)][share]
        x0 = self.batches.pixels(plans)
        noise = self.batches.randn((n, *x0.shape[1:]), "noise", step)[share]
        return self.noised(x0, noise, times, [plan.caption for plan in plans])

    def noised(self, x0: Tensor, noise: Tensor, times: list[float], texts: list[str]) -> Batch:
        alpha = column([self.schedule.alpha(t) for t in times], x0)
        sigma = column([self.schedule.sigma(t) for t in times], x0)
        steps = self.schedule.steps
        index = torch.tensor([max(round(t * steps) - 1, 0) for t in times], device=self.device)
        cond = self.prompts(texts).map(lambda v: v.to(self.device))
        lengths = cond["mask"].sum(1).clamp_min(1)
        return Batch(alpha * x0 + sigma * noise, index, cond["tokens"], lengths)

    def logits(self, batch: Batch) -> Tensor:
        """Scaled similarities, pictures by texts."""
        image = self.net.image(batch.x, batch.index)
        text = self.net.text(batch.tokens, batch.lengths)
        return self.net.config.logit_scale * image @ text.T

    def loss(self, batch: Batch, step: int) -> Outcome:
        logits = self.logits(batch)
        same = torch.arange(len(logits), device=logits.device)
        total = (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2
        right = (logits.argmax(1) == same).float().mean()
        return Outcome(total, {"wrong": float(1 - right)})

    def _matched(self, test: TestSet, t: float) -> Tensor:
        noise = self.batches.randn(tuple(test.pixels.shape), "judge", 0)
        return self.logits(self.noised(test.pixels, noise, [t] * len(noise), test.texts))

    def judge(self) -> dict[str, float]:
        """Share of pictures whose own caption is not the nearest of 160, at three levels."""
        measures = {}
        for test, who in zip(self.batches.tests, ("train", "held-out"), strict=False):
            for t in LEVELS:
                nearest = self._matched(test, t).argmax(1).tolist()
                texts = test.texts
                wrong = sum(texts[k] != text for k, text in zip(nearest, texts, strict=True))
                measures[f"{who} wrong {t:g}"] = max(wrong / len(texts), 1e-3)
        return measures

    def show(self, file: Path) -> None:
        """Training pictures and the three nearest captions of each."""
        test = self.batches.tests[0]
        best = self._matched(test, LEVELS[0]).topk(3).indices[:12].tolist()
        texts = ["  |  ".join(test.texts[k] for k in row) for row in best]
        with checkpoint.beside(file) as part:
            listed(test.pixels[:12], texts).save(part, "PNG")

    def export(self, folder: Path, average: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
        """Shards in float16 and clip.json."""
        names = checkpoint.write_shards(folder, "clip", {k: v.half() for k, v in average.items()})
        tokenizer = self.batches.tokenizer_file.read_text(encoding="utf-8")
        checkpoint.put_text(folder / "tokenizer.json", tokenizer)
        entry = {
            "network": asdict(self.net.config),
            "weights": names,
            "tokenizer": "tokenizer.json",
            "schedule": self.config.model.schedule,
            "training": dict(facts),
        }
        checkpoint.put_text(folder / "clip.json", json.dumps(entry, indent=1))
        return folder


def tuner(config: Config, data: Path, folder: Path, device: str) -> Contrastive:
    """What `tuner = "contrastive"` in a recipe makes."""
    return Contrastive(config, data, folder, device)
