"""P+ and XTI (arXiv 2303.09522): Textual Inversion with vectors of their own for every layer.

Each cross-attention layer reads the prompt encoded with its own vectors of the word; they are
numbered as they run. The file holds them as one tensor (layers, n, width).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sfumato.models import added_words, encoders
from sfumato.models.model import Model
from sfumato.train.config import Config
from sfumato.train.reads import Reads
from sfumato.train.tuners.textual_inversion import TextualInversion

READS = Reads(times=True, denoiser=True, subject=True, word=True)


class PPlus(TextualInversion):
    """Implements Tuner."""

    def start(self, model: Model, encoder: encoders.Encoder, k: int) -> Tensor:
        """All layers start alike."""
        return super().start(model, encoder, k).repeat(added_words.layer_count(model), 1, 1)

    def files(self, average: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """The tensor; and a word for every layer, "<t>-0", "<t>-1", ..., as others keep it."""
        layers = average["0"]
        apart = {f"{self.word}-{k}": vectors for k, vectors in enumerate(layers)}
        return {
            "learned_layers.safetensors": {self.word: layers},
            "learned_words.safetensors": apart,
        }


def tuner(config: Config, data: Path, folder: Path, device: str) -> PPlus:
    """What `tuner = "p_plus"` in a recipe makes."""
    return PPlus(config, data, folder, device)
