"""What a CLIP is shown of a moment: the noisy state with its timestep, or the predicted picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from sfumato.core.context import Call, Run
from sfumato.core.errors import SfumatoError
from sfumato.core.idle import Needs
from sfumato.core.lazy import torch
from sfumato.core.schedule import Schedule, ratio
from sfumato.core.source import Clip
from sfumato.methods import knob
from sfumato.methods.common.kinds import Weights
from sfumato.methods.common.weights import record

if TYPE_CHECKING:
    from torch import Tensor

Noised = Annotated[bool, knob("look at the noisy state, not at the predicted picture")]
Faintest = Annotated[
    float, knob("smallest alpha at which it acts, but for solver ddpm", ge=0, le=1)
]
CleanClip = Annotated[
    Weights | None, knob("folder or org/name of a clean CLIP; the model's own if not given")
]
SeenThrough = Annotated[
    Literal["full", "tiny"],
    knob("of a latent model: what a clean CLIP sees x0 through; tiny is faster"),
    Needs("noised=no"),
]


def clip_for(method: str, run: Run, name: str | None, noised: bool) -> Clip:
    """The model's own CLIP or the named one; refuses one that cannot look at noisy states."""
    clip = None if run.source is None else run.source.clip(name)
    if clip is None:
        raise SfumatoError(f"{method}: this model has no CLIP; give clip, a folder or org/name")
    record(run, method, "clip", clip.origin)
    if noised and (run.space.stride > 1 or not clip.noised):
        what = "latents" if run.space.stride > 1 else "noise"
        raise SfumatoError(
            f"{method}: this CLIP has never seen {what}; give noised=false, so that it "
            "looks at the predicted picture"
        )
    return clip


def shown(x: Tensor, call: Call, own: Schedule) -> tuple[Tensor, int]:
    """The state as a network of another schedule has it at equal sigma/alpha, and its index."""
    t = own.at(ratio(call.schedule, call.t))
    pixels = x if own is call.schedule else x * (own.alpha(t) / call.schedule.alpha(call.t))
    return pixels, max(round(t * own.steps) - 1, 0)


def sized(pixels: Tensor, size: int | None) -> Tensor:
    """Averaged or interpolated to a CLIP's own size."""
    if size is None or pixels.shape[-2:] == (size, size):
        return pixels
    resize = torch.nn.functional.interpolate
    return resize(pixels, (size, size), mode="bilinear", antialias=True)
