"""CLIP guidance (GLIDE, arXiv 2112.10741, section 2.4): steer towards a text by a CLIP's gradient.

A noised CLIP looks at x_t itself and knows its timestep. A clean one has never seen noise, so it
looks at the prediction of x0 instead (`noised=False`); the paper says why that is worse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from sfumato.core.context import Call, Run
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.lazy import torch
from sfumato.core.schedule import FAINTEST, Schedule
from sfumato.core.source import Decoder
from sfumato.methods import Method, knob, method
from sfumato.methods.common.kinds import Text
from sfumato.methods.common.loss import decoder
from sfumato.methods.common.sight import (
    CleanClip,
    Faintest,
    Noised,
    SeenThrough,
    clip_for,
    shown,
    sized,
)

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.denoiser import Prediction
    from sfumato.core.process import Process


@method
class CLIPGuidance(Method):
    """Adds scale * logit_scale * cos(text, picture) to the log-probability."""

    slot: ClassVar[str | None] = "clip_guidance"

    scale: Annotated[float, knob("strength of the gradient", main=True, ge=0, le=1000)] = 1.0
    prompt: Annotated[Text | None, knob("text to steer to; the process's own if not given")] = None
    noised: Noised = True
    faintest: Faintest = FAINTEST
    clip: CleanClip = None
    decoder: SeenThrough = "full"

    def __call__(self, process: Process) -> Process:
        return process.add(guides=[self])

    def bind_guide(self, run: Run) -> Guide:
        clip = clip_for(self.id, run, self.clip, self.noised)
        text = self.prompt if self.prompt is not None else run.process.prompt
        if not text.strip():
            raise SfumatoError("clip_guidance: no text to steer to; give a prompt")
        return Agreement(
            clip.image,
            clip.text([text]),
            clip.schedule or run.schedule,
            self.scale * clip.logit_scale,
            noised=self.noised,
            size=clip.size,
            faintest=self.faintest,
            decode=decoder(self.id, run, self.decoder) if run.space.stride > 1 else None,
        )


@dataclass(frozen=True, eq=False)
class Agreement(Guide):
    """strength * cos(text, image(x_t, timestep)); image gives unit vectors (B, E), text is (1, E).

    A state of another schedule is brought to the CLIP's own at equal sigma/alpha; another size is
    averaged or interpolated to the CLIP's. decode: latents to pixels, gradients go through it.
    """

    image: Callable[[Tensor, Tensor], Tensor]
    text: Tensor
    schedule: Schedule
    strength: float
    noised: bool = True
    size: int | None = None
    faintest: float = 0.0
    decode: Decoder | None = None

    name = "clip_guidance"

    @property
    def through(self) -> Literal["prediction", "network"]:  # type: ignore[override]
        return "prediction" if self.noised else "network"

    def logp(self, x: Tensor, pred: Prediction, call: Call) -> Tensor:
        if self.noised:
            pixels, index = shown(x, call, self.schedule)
        else:
            pixels, index = pred.x0 if self.decode is None else self.decode(pred.x0), 0
        pixels = sized(pixels, self.size)
        call.count("clip")
        vectors = self.image(pixels, torch.full((len(x),), index, device=x.device))
        return self.strength * (vectors * self.text).sum(1)
