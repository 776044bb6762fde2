"""How alike two pictures are in the layers of a CLIP, and the guide that steers by it.

Layers are tokens (B, 1 + patches, C) after each block, the first token no patch's, then a unit
vector (B, E).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sfumato.core.context import Call
from sfumato.core.guides import Guide
from sfumato.core.lazy import torch
from sfumato.core.schedule import Schedule
from sfumato.core.source import Clip, Decoder
from sfumato.methods.common.sight import shown, sized

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.denoiser import Prediction

STYLES = 5  # layers whose Gram matrices are compared


@dataclass(frozen=True, eq=False)
class Semantic(Guide):
    """text (1, E), known (1, 3, H, W): what is steered to; alike: of two pictures' layers, (B,).

    known: a state where the noisy state is looked at, else pixels. decode: latents to pixels.
    """

    clip: Clip
    schedule: Schedule
    text: Tensor | None
    text_weight: float
    known: Tensor | None
    alike: Any
    weight: float
    noised: bool = True
    faintest: float = 0.0
    decode: Decoder | None = None

    name = "sdg"

    @property
    def through(self) -> Literal["prediction", "network"]:  # type: ignore[override]
        return "prediction" if self.noised else "network"

    def logp(self, x: Tensor, pred: Prediction, call: Call) -> Tensor:
        pixels = x
        if not self.noised:
            pixels = pred.x0 if self.decode is None else self.decode(pred.x0)
        layers = self.look(pixels, call)
        total = x.new_zeros(len(x))
        if self.text is not None:
            total = total + self.text_weight * (layers[-1] * self.text).sum(1)
        if self.known is not None:
            with torch.no_grad():
                wanted = self.look(self.reference(x.detach(), call), call)
            total = total + self.weight * self.alike(layers, wanted)
        return total

    def reference(self, like: Tensor, call: Call) -> Tensor:
        """The reference at the state's level, its noise its own; shaped like the state."""
        assert self.known is not None
        known = self.known.to(like)
        if not self.noised:
            return known.expand(len(like), -1, -1, -1)
        noise = call.noise("reference", like)
        return torch.add(call.alpha * known, noise, alpha=call.sigma)

    def look(self, pixels: Tensor, call: Call) -> Sequence[Tensor]:
        index = 0
        if self.noised:
            pixels, index = shown(pixels, call, self.schedule)
        pixels = sized(pixels, self.clip.size)
        call.count("clip")
        return self.clip.layers(pixels, torch.full((len(pixels),), index, device=pixels.device))


def content(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Cosine of the unit vectors."""
    return (a[-1] * b[-1]).sum(1)


def structure(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Patch by patch, after the last block."""
    return -(patches(a[-2]) - patches(b[-2])).square().sum(-1).mean(1)


def style(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """What patches have in common, wherever they are."""
    count = len(a) - 1
    chosen = sorted({round((k + 1) * count / STYLES) - 1 for k in range(STYLES)} - {-1})
    gaps = [(gram(a[k]) - gram(b[k])).square().sum((1, 2)) for k in chosen]
    return -torch.stack(gaps).mean(0)


ALIKE = {"content": content, "structure": structure, "style": style}


def gram(tokens: Tensor) -> Tensor:
    """(B, C, C)."""
    rows = patches(tokens)
    return rows.mT @ rows / rows.shape[1]


def patches(tokens: Tensor) -> Tensor:
    """Unit vectors of the patches, without the first token."""
    normalised: Tensor = torch.nn.functional.normalize(tokens[:, 1:], dim=-1)
    return normalised
