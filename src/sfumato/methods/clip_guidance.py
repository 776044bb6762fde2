"""CLIP guidance (GLIDE, arXiv 2112.10741, section 2.4): steer towards a text by a CLIP's gradient.

A noised CLIP looks at x_t itself and knows its timestep. A clean one has never seen noise, so it
looks at the prediction of x0 instead (`noised=False`); the paper says why that is worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Call, Guide
from sfumato.core.lazy import torch
from sfumato.core.schedule import FAINTEST, Schedule, ratio
from sfumato.methods import Method, Text, Weights, knob, method
from sfumato.methods.loss import decoder

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.denoiser import Prediction
    from sfumato.core.process import Process
    from sfumato.core.run import Run


@method
class CLIPGuidance(Method):
    """Adds scale * logit_scale * cos(text, picture) to the log-probability."""

    slot: ClassVar[str | None] = "clip_guidance"

    scale: Annotated[float, knob("strength of the gradient", main=True, ge=0, le=1000)] = 1.0
    prompt: Annotated[Text | None, knob("text to steer to; the process's own if not given")] = None
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
    ] = "full"

    def __call__(self, process: Process) -> Process:
        return process.add(guides=[_Unbound(self)])


class _Unbound(Guide):
    """Becomes the gradient of the run's own CLIP."""

    name = "clip_guidance"

    def __init__(self, method: CLIPGuidance) -> None:
        self.method = method
        self.through = "input" if method.noised else "model"

    def bind(self, run: Run) -> Guide:
        source: Any = run.process.source
        m = self.method
        clip = None if source is None else source.get("clip", m.clip)
        if clip is None:
            raise SfumatoError(
                "clip_guidance: this model has no CLIP; give clip, a folder or org/name"
            )
        if m.noised and (run.space.stride > 1 or not clip.noised):
            what = "latents" if run.space.stride > 1 else "noise"
            raise SfumatoError(
                f"clip_guidance: this CLIP has never seen {what}; give noised=false, so that it "
                "looks at the predicted picture"
            )
        text = self.method.prompt if self.method.prompt is not None else run.process.prompt
        if not text.strip():
            raise SfumatoError("clip_guidance: no text to steer to; give a prompt")
        return Agreement(
            clip.image,
            clip.text([text]),
            clip.schedule or run.schedule,
            m.scale * clip.logit_scale,
            noised=m.noised,
            size=clip.size,
            faintest=m.faintest,
            decode=decoder(self.name, run, m.decoder) if run.space.stride > 1 else None,
        )

    def logp(self, x: Tensor, pred: Prediction, call: Call) -> Tensor:
        raise TypeError("clip_guidance is bound when a run begins")


@dataclass(frozen=True, eq=False)
class Agreement(Guide):
    """strength * cos(text, image(x_t, timestep)); image gives unit vectors (B, E), text is (1, E).

    A state of another schedule is brought to the CLIP's own at equal sigma/alpha; another size is
    averaged or interpolated to the CLIP's. decode: latents to pixels, gradients go through it.
    """

    image: Any
    text: Tensor
    schedule: Schedule
    strength: float
    noised: bool = True
    size: int | None = None
    faintest: float = 0.0
    decode: Any = None

    name = "clip_guidance"

    @property
    def through(self) -> Any:  # type: ignore[override]
        return "input" if self.noised else "model"

    def logp(self, x: Tensor, pred: Prediction, call: Call) -> Tensor:
        own = self.schedule
        if self.noised:
            t = own.at(ratio(call.schedule, call.t))
            seen = x if own is call.schedule else x * (own.alpha(t) / call.schedule.alpha(call.t))
        else:
            t, seen = 1 / own.steps, pred.x0 if self.decode is None else self.decode(pred.x0)
        if self.size is not None and seen.shape[-2:] != (self.size, self.size):
            resize = torch.nn.functional.interpolate
            seen = resize(seen, (self.size, self.size), mode="bilinear", antialias=True)
        index = max(round(t * own.steps) - 1, 0)
        call.count("clip")
        found = self.image(seen, torch.full((len(x),), index, device=x.device))
        cosine: Tensor = (found * self.text).sum(1)
        return self.strength * cosine
