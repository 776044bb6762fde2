"""ControlNet (arXiv 2302.05543): teach a copy of a frozen network's way down to read hints.

Hints are made of the training pictures themselves: edges, or what differs from the ground. A share
of the captions is left empty, so that the copy learns to see what the hint shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from sfumato.core.errors import SfumatoError
from sfumato.core.source import Origin
from sfumato.core.taps import Tap
from sfumato.methods.controlnet import Controlled
from sfumato.models.controls import OwnControl
from sfumato.nn.control import Control
from sfumato.nn.hints import HINTS
from sfumato.nn.unet import UNet
from sfumato.train import checkpoint, networks
from sfumato.train.config import Config
from sfumato.train.frozen import Batch, Frozen
from sfumato.train.grids import tiled
from sfumato.train.reads import Reads
from sfumato.train.tuners import Outcome
from sfumato.train.values import Share, part

READS = Reads(packed=True, times=True, denoiser=True)
FILE = "control.safetensors"
SHOWN = 8
NAMELESS = Origin("in training", "")


@part
class Options:
    """hint: what the copy learns to read. drop: share of captions left empty."""

    hint: Literal["edges", "mask"] = "edges"
    drop: Share = 0.5


class ControlNet:
    """Implements Tuner."""

    def __init__(self, config: Config, data: Path, folder: Path, device: str) -> None:
        self.config, self.own = config, config.part_of(Options)
        self.base = Frozen(config, data, folder, device)
        network = self.base.denoiser.network
        if not isinstance(network, UNet):
            raise SfumatoError(
                f"model.start {self.base.model.name}: a network of our own is needed; for Stable "
                "Diffusion's take a ControlNet that diffusers trained"
            )
        build = networks.initialised(lambda: Control.copy_of(network), config.run.seed)
        self.control = build.to(device).train()

    def digests(self) -> dict[str, str]:
        return self.base.digests()

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.control.named_parameters())

    def batch(self, step: int, share: slice) -> Batch:
        return self.base.batch(step, share, self.own.drop)

    def tap(self, pixels: Tensor) -> Tap:
        """The copy with the hints of these pictures."""
        control = OwnControl(self.control, NAMELESS)
        return Controlled(control, control.read(shown(HINTS[self.own.hint](pixels))))

    def loss(self, batch: Batch, step: int) -> Outcome:
        loss = self.base.loss(batch, self.tap(batch.pixels))
        return Outcome(loss.total, {"mse": float(loss.mse.mean())})

    def judge(self) -> dict[str, float]:
        """Error at four levels with and without the copy."""
        self.control.eval()
        errors = self.base.judged(self.tap)
        self.control.train()
        return errors

    def show(self, file: Path) -> None:
        """Held-out pictures, their hints, what is drawn with the hint, and without."""
        self.control.eval()
        test = self.base.batches.tests[-1]
        pixels, texts = test.pixels[:SHOWN], test.texts[:SHOWN]
        drawn = self.base.drawn(texts, self.tap(pixels))
        alone = self.base.drawn(texts)
        self.control.train()
        hints = shown(HINTS[self.own.hint](pixels))
        rows = [pixels, hints, drawn, alone]
        checkpoint.put_picture(file, tiled(rows, labels=["true", "hint", "with it", "without"]))

    def export(self, folder: Path, average: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
        """One file in float16, with the kind of its hints in the header."""
        half = {name: tensor.half() for name, tensor in average.items()}
        checkpoint.write(folder / FILE, half, {"hint": self.own.hint, "training": dict(facts)})
        return folder / FILE


def shown(hint: Tensor) -> Tensor:
    """Hints (B, 1, H, W) of 0 and 1 as pictures (B, 3, H, W) in [-1, 1]."""
    return hint.expand(-1, 3, -1, -1) * 2 - 1


def tuner(config: Config, data: Path, folder: Path, device: str) -> ControlNet:
    """What `tuner = "controlnet"` in a recipe makes."""
    return ControlNet(config, data, folder, device)
