"""Semantic diffusion guidance (arXiv 2112.05744): by words and a picture, in a CLIP's features.

log p(x_t) = text cos(E(x_t, t), E(l)) + weight F(x_t, x'_t), where x'_t is the reference noised to
the same level and F, of the layers of a CLIP that has seen noise, one of
  content    cos(E(x_t), E(x'_t))
  structure  -mean_i |u_i - u'_i|^2 over the patches' last unit vectors u
  style      -mean |G - G'|^2 over five layers, G = mean_i u_i u_i^T.
A clean CLIP looks at the predicted picture instead (`noised=False`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from sfumato.core.context import Call, Run
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.idle import Needs
from sfumato.core.lazy import torch
from sfumato.core.schedule import FAINTEST, Schedule
from sfumato.core.source import Clip, Decoder
from sfumato.images import Image
from sfumato.methods import Method, knob, method
from sfumato.methods.cfg import CFG
from sfumato.methods.common.kinds import Text, Weights
from sfumato.methods.common.loss import decoder
from sfumato.methods.common.reference import reference_pixels
from sfumato.methods.common.sight import clip_for, shown, sized

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.denoiser import Prediction
    from sfumato.core.process import Process

STYLES = 5  # layers whose Gram matrices are compared


@method
class SDG(Method):
    """Made for solver ddpm, which shifts its mean by Sigma times the gradient, and no prompt."""

    verb: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        "--image reference.png",
        '--image reference.png --what style --text "blue heart"',
    )
    slot: ClassVar[str | None] = "sdg"
    solver: ClassVar[str | Mapping[str, Any] | None] = "ddpm"
    defaults: ClassVar[tuple[Method, ...]] = (CFG(1.0),)

    image: Annotated[Image | None, knob("the reference picture", main=True)] = None
    what: Annotated[
        Literal["content", "structure", "style"], knob("what is taken of it"), Needs("image")
    ] = "content"
    weight: Annotated[float, knob("strength of the reference", ge=0, le=1e6), Needs("image")] = (
        100.0
    )
    text: Annotated[Text, knob("words to steer to")] = ""
    text_weight: Annotated[float, knob("strength of the words", ge=0, le=1e6), Needs("text")] = (
        160.0
    )
    noised: Annotated[bool, knob("look at the noisy state, not at the predicted picture")] = True
    faintest: Annotated[
        float, knob("smallest alpha at which it acts, but for solver ddpm", ge=0, le=1)
    ] = FAINTEST
    clip: Annotated[
        Weights | None, knob("folder or org/name of a clean CLIP; the model's own if not given")
    ] = None
    decoder: Annotated[
        Literal["full", "tiny"],
        knob("of a latent model: what a clean CLIP sees x0 through; tiny is faster"),
        Needs("noised=no"),
    ] = "full"

    def __call__(self, process: Process) -> Process:
        if self.image is None and not self.text.strip():
            raise SfumatoError("sdg: nothing to steer to; give image, or text")
        acts = (self.image is not None and self.weight) or (self.text and self.text_weight)
        return process.add(guides=(self,)) if acts else process

    def bind_guide(self, run: Run) -> Guide:
        clip = clip_for(self.id, run, self.clip, self.noised)
        known = None
        if self.image is not None and self.weight:
            pixels = reference_pixels(self.id, self.image, run)
            known = run.space.encode(pixels) if self.noised else pixels
        return Semantic(
            clip,
            clip.schedule or run.schedule,
            clip.text([self.text]) if self.text and self.text_weight else None,
            self.text_weight,
            known,
            ALIKE[self.what],
            self.weight,
            self.noised,
            self.faintest,
            decoder(self.id, run, self.decoder) if run.space.stride > 1 else None,
        )


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
