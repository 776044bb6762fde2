"""A classifier of noisy pictures: which style, and which group of things (arXiv 2105.05233).

One network with a softmax for each of the two; the first thing of a picture gives its group.
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

from sfumato.core.errors import SfumatoError
from sfumato.nn.classifier import Classifier
from sfumato.nn.unet import UNetConfig
from sfumato.train import checkpoint, networks, warm_start
from sfumato.train.batches import Batches, TestSet
from sfumato.train.config import Config
from sfumato.train.grids import listed
from sfumato.train.noisy import LEVELS, Noisy, NoisyPictures
from sfumato.train.reads import Reads
from sfumato.train.tuners import Outcome

READS = Reads(packed=True, network=True, levels=True, times=True)
UNREAD = ("low_res", "inpaint", "num_classes", "xf_width")
"""Fields of a denoiser's network that say what it reads beside the picture."""


@dataclass(frozen=True)
class Batch:
    """Noisy pictures, table indices, and the two labels of each."""

    x: Tensor
    time: Tensor
    labels: Tensor


class NoisyClassifier:
    """Implements Tuner."""

    def __init__(self, config: Config, data: Path, folder: Path, device: str) -> None:
        self.config, self.device = config, device
        self.batches = Batches(config, data, folder, device)
        concepts = self.batches.composer.store.concepts
        self.names = {
            "style": self.batches.composer.styles,
            "group": sorted({concept.group for concept in concepts}),
        }
        classes = sum(len(names) for names in self.names.values())
        table = {**config.model.network, "out_channels": classes}
        network = networks.described(UNetConfig, table)
        for name in UNREAD:
            if getattr(network, name):
                raise SfumatoError(
                    f"model.network.{name}: a classifier reads a noisy picture alone; leave it out"
                )
        net = networks.initialised(lambda: Classifier(network, config.data.size), config.run.seed)
        start = config.model.start
        self.base = warm_start.start(net, start, "classifier") if start else {}
        self.net = net.to(device).train()
        self.noisy = NoisyPictures(config, self.batches)

    def digests(self) -> dict[str, str]:
        return self.batches.digests() | self.base

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.net.named_parameters())

    def batch(self, step: int, share: slice) -> Batch:
        plans = self.batches.plans(step, share)
        classes = [(plan.scene.style, plan.scene.things[0].concept.group) for plan in plans]
        return self.labelled(self.noisy.of_step(plans, step, share), classes)

    def labelled(self, pictures: Noisy, classes: list[tuple[str, str]]) -> Batch:
        index = [max(t * self.noisy.schedule.steps - 1, 0.0) for t in pictures.times]
        styles, groups = self.names["style"], self.names["group"]
        labels = [[styles.index(style), groups.index(group)] for style, group in classes]
        return Batch(
            pictures.x,
            torch.tensor(index, device=self.device),
            torch.tensor(labels, device=self.device),
        )

    def logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of styles and of groups."""
        out = self.net(batch.x, batch.time)
        n = len(self.names["style"])
        return out[:, :n], out[:, n:]

    def loss(self, batch: Batch, step: int) -> Outcome:
        style, group = self.logits(batch)
        of_style = F.cross_entropy(style, batch.labels[:, 0])
        of_group = F.cross_entropy(group, batch.labels[:, 1])
        parts = {"style": float(of_style.detach()), "group": float(of_group.detach())}
        return Outcome(of_style + of_group, parts)

    def _predicted(self, test: TestSet, t: float) -> tuple[Tensor, Batch]:
        """Which classes the network sees, (N, 2), and the batch with the true ones."""
        classes = list(zip(test.styles, [c.group for c in test.concepts], strict=True))
        batch = self.labelled(self.noisy.of_test(test, t), classes)
        return torch.stack([part.argmax(1) for part in self.logits(batch)], dim=1), batch

    def judge(self) -> dict[str, float]:
        """Share of wrong styles and groups at three levels."""
        measures = {}
        self.net.eval()
        for test, who in zip(self.batches.tests, ("train", "held-out"), strict=False):
            for t in LEVELS:
                predicted, batch = self._predicted(test, t)
                wrong = (predicted != batch.labels).float().mean(0).tolist()
                for name, share in zip(("style", "group"), wrong, strict=True):
                    measures[f"{who} {name} wrong {t:g}"] = max(share, 1e-3)
        self.net.train()
        return measures

    def show(self, file: Path) -> None:
        """Held-out pictures and what the network takes them for."""
        self.net.eval()
        test = self.batches.tests[-1]
        predicted, _ = self._predicted(test, LEVELS[0])
        styles, groups = self.names["style"], self.names["group"]
        texts = [f"{styles[s]}, {groups[g]}" for s, g in predicted[:12].tolist()]
        self.net.train()
        checkpoint.put_picture(file, listed(test.pixels[:12], texts))

    def export(self, folder: Path, average: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
        """Shards in float16 and classifier.json."""
        half = {name: tensor.half() for name, tensor in average.items()}
        entry = {
            "network": asdict(self.net.config),
            "size": self.config.data.size,
            "pool": self.net.pool,
            "classes": self.names,
            "weights": checkpoint.write_shards(folder, "classifier", half),
            "schedule": self.config.model.schedule,
            "training": dict(facts),
        }
        checkpoint.put_text(folder / "classifier.json", json.dumps(entry, indent=1))
        return folder


def tuner(config: Config, data: Path, folder: Path, device: str) -> NoisyClassifier:
    """What `tuner = "classifier"` in a recipe makes."""
    return NoisyClassifier(config, data, folder, device)
