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

from sfumato.nn.clip import CLIPConfig, NoisedCLIP
from sfumato.train import checkpoint, networks, warm_start
from sfumato.train.batches import Batches, TestSet
from sfumato.train.config import Config
from sfumato.train.grids import listed
from sfumato.train.noisy import LEVELS, Noisy, NoisyPictures
from sfumato.train.reads import Reads
from sfumato.train.tuners import Outcome

READS = Reads(packed=True, network=True, levels=True, times=True)


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
        start = config.model.start
        self.base = warm_start.start(net, start, "clip") if start else {}
        self.net = net.to(device).train()
        self.noisy = NoisyPictures(config, self.batches)
        self.prompts = self.batches.prompts(shape.context, shape.vocabulary)

    def digests(self) -> dict[str, str]:
        return self.batches.digests(words=True) | self.base

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.net.named_parameters())

    def batch(self, step: int, share: slice) -> Batch:
        plans = self.batches.plans(step, share)
        pictures = self.noisy.of_step(plans, step, share)
        return self.captioned(pictures, [plan.caption for plan in plans])

    def captioned(self, pictures: Noisy, texts: list[str]) -> Batch:
        steps = self.noisy.schedule.steps
        rows = [max(round(t * steps) - 1, 0) for t in pictures.times]
        index = torch.tensor(rows, device=self.device)
        cond = self.prompts(texts).map(lambda v: v.to(self.device))
        lengths = cond["mask"].sum(1).clamp_min(1)
        return Batch(pictures.x, index, cond["tokens"], lengths)

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
        return self.logits(self.captioned(self.noisy.of_test(test, t), test.texts))

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
        checkpoint.put_picture(file, listed(test.pixels[:12], texts))

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
