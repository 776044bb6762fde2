"""A model's classifier of noisy states, with the names of its classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.models.card import ClassifierCard
from sfumato.models.files.checkpoint import load_network
from sfumato.nn.classifier import Classifier
from sfumato.nn.unet import UNetConfig

if TYPE_CHECKING:
    from sfumato.models.model import Model


@dataclass(frozen=True, eq=False)
class Labeller:
    """A noise-aware classifier; classes: the names in each of its softmaxes, in order."""

    network: Classifier
    classes: Mapping[str, tuple[str, ...]]
    device: str

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse states that the classifier's attention pool has no positions for."""
        side = self.network.side
        if side is not None and tuple(shape[1:]) != (side, side):
            raise SfumatoError(
                f"classifier: reads {side}x{side}, this run works on {shape[2]}x{shape[1]}; give "
                "another size, or leave it out"
            )

    def log_probabilities(self, x: Tensor, time: Tensor) -> dict[str, Tensor]:
        """log p(class | x, timestep) for each softmax, (B, classes)."""
        logits = self.network(x, time)
        sizes = [len(names) for names in self.classes.values()]
        groups = torch.split(logits, sizes, dim=1)
        return {
            name: group.log_softmax(1) for name, group in zip(self.classes, groups, strict=True)
        }


def classifier(folder: Path, card: ClassifierCard, device: str) -> Labeller:
    """By the card's entry."""
    config = UNetConfig(**card.network)
    files = {"": [folder / name for name in card.weights]}
    network = load_network(lambda: Classifier(config, card.size, card.pool), files, device)
    return Labeller(network, card.classes, device)


def classifier_of(model: Model) -> Labeller | None:
    """The card's."""
    card = model.card.classifier
    if card is None or model.folder is None:
        return None
    return classifier(model.folder, card, model.choice.device)
