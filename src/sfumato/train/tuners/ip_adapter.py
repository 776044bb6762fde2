"""IP-Adapter (arXiv 2308.06721): teach a second attention of a frozen network to read pictures.

The picture that a row is trained on is its own prompt, seen by the model's CLIP; captions and
pictures are left out now and then, so that guidance and either prompt alone work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.errors import SfumatoError
from sfumato.core.source import Origin
from sfumato.core.taps import Tap
from sfumato.methods.ip_adapter import Prompted
from sfumato.models.image_prompts import Prompter, own_encoder, own_spots
from sfumato.nn.image_prompt import ImagePrompt
from sfumato.nn.unet import UNet
from sfumato.train import checkpoint, networks
from sfumato.train.config import Config
from sfumato.train.frozen import Batch, Frozen
from sfumato.train.grids import tiled
from sfumato.train.reads import Reads
from sfumato.train.tuners import Outcome
from sfumato.train.values import Share, part

READS = Reads(packed=True, times=True, denoiser=True)
FILE = "adapter.safetensors"
SHOWN = 8


@part
class Options:
    """tokens: of a picture. drop_text, drop_image, drop_both: shares of rows without the one, the
    other, or either."""

    tokens: Annotated[int, Field(ge=1, le=256)] = 4
    drop_text: Share = 0.05
    drop_image: Share = 0.05
    drop_both: Share = 0.05


@dataclass(frozen=True)
class Seen:
    """A batch and the vectors of its pictures (B, E), 0 where they are left out."""

    batch: Batch
    vectors: Tensor


class IPAdapter:
    """Implements Tuner."""

    def __init__(self, config: Config, data: Path, folder: Path, device: str) -> None:
        self.config, self.own = config, config.part_of(Options)
        own = self.own
        if own.drop_text + own.drop_image + own.drop_both > 1:
            raise SfumatoError(
                "[ip_adapter]: drop_text, drop_image and drop_both exceed 1 together"
            )
        self.base = Frozen(config, data, folder, device)
        network, model = self.base.denoiser.network, self.base.model
        if not isinstance(network, UNet) or not network.config.xf_width:
            raise SfumatoError(
                f"model.start {model.name}: a network of our own that reads text is needed; for "
                "Stable Diffusion's take a released adapter"
            )
        self.encoder = own_encoder(model, f"model.start {model.name}")
        self.nothing = self.encoder.nothing()
        embedding = self.nothing.shape[-1]
        prompt = networks.initialised(
            lambda: ImagePrompt.beside(network, embedding, own.tokens), config.run.seed
        )
        self.prompt = prompt.to(device).train()
        self.prompter = Prompter(
            self.prompt, self.encoder, own_spots(network), Origin("in training", "")
        )

    def digests(self) -> dict[str, str]:
        return self.base.digests()

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.prompt.named_parameters())

    def batch(self, step: int, share: slice) -> Seen:
        """One draw for each row decides what it lacks."""
        own, batch = self.own, self.base.batch(step, share, 0.0)
        rng = self.base.batches.rng("prompts", step)
        draws = [rng.random() for _ in range(self.config.optim.batch)][share]
        image, text = own.drop_image, own.drop_image + own.drop_text
        both = text + own.drop_both
        texts = [
            "" if image <= u < both else spoken
            for u, spoken in zip(draws, batch.texts, strict=True)
        ]
        blind = torch.tensor([u < image or text <= u < both for u in draws])
        vectors = self.vectors(batch.pixels)
        vectors[blind.to(vectors.device)] = self.nothing
        return Seen(replace(batch, texts=texts), vectors)

    def vectors(self, pixels: Tensor) -> Tensor:
        """What the encoder sees of pictures (B, 3, S, S) in [-1, 1]."""
        side = self.encoder.size
        if pixels.shape[-1] != side:
            pixels = F.interpolate(pixels, (side, side), mode="bicubic", antialias=True)
        with torch.no_grad():
            return self.encoder.look(pixels.clamp(-1, 1)).clone()

    def tap(self, vectors: Tensor) -> Tap:
        return Prompted(self.prompter.tokens(vectors), self.prompter)

    def loss(self, batch: Seen, step: int) -> Outcome:
        loss = self.base.loss(batch.batch, self.tap(batch.vectors))
        return Outcome(loss.total, {"mse": float(loss.mse.mean())})

    def judge(self) -> dict[str, float]:
        """Error at four levels with and without the pictures."""
        self.prompt.eval()
        errors = self.base.judged(lambda pixels: self.tap(self.vectors(pixels)))
        self.prompt.train()
        return errors

    def show(self, file: Path) -> None:
        """Held-out pictures, another one's words drawn like each of them, the words alone."""
        self.prompt.eval()
        test = self.base.batches.tests[-1]
        pixels, texts = test.pixels[:SHOWN], test.texts[:SHOWN]
        spoken = [*texts[1:], texts[0]]
        tokens = self.prompter.tokens(self.vectors(pixels))
        of_pictures = Prompted(tokens, self.prompter, key="picture", on=("positives",))
        of_none = Prompted(self.prompter.nothing(), self.prompter, key="none", on=("aways",))
        drawn = self.base.drawn(spoken, of_pictures, of_none)
        alone = self.base.drawn(spoken)
        self.prompt.train()
        labels = ["picture", "\n".join(spoken), "words alone"]
        checkpoint.put_picture(file, tiled([pixels, drawn, alone], labels=labels))

    def export(self, folder: Path, average: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
        """One file in float16."""
        half = {name: tensor.half() for name, tensor in average.items()}
        checkpoint.write(folder / FILE, half, {"training": dict(facts)})
        return folder / FILE


def tuner(config: Config, data: Path, folder: Path, device: str) -> IPAdapter:
    """What `tuner = "ip_adapter"` in a recipe makes."""
    return IPAdapter(config, data, folder, device)
