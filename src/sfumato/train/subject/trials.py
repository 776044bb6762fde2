"""What a run on a subject is judged by: fixed noise levels, fixed noise, fixed seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.noise import keyed
from sfumato.metrics import fidelity
from sfumato.models.model import Model
from sfumato.train.objective import Objective

LEVELS = (0.125, 0.375, 0.625, 0.875)
SHOWN, JUDGED, STEPS = 4, 8, 16


def fixed_noise(state: Tensor, k: int, t: float) -> Tensor:
    """The noise (1, C, h, w) of picture k at a level, the same at every judgement."""
    generator = torch.Generator(state.device)
    generator.manual_seed(keyed(f"judge/{k}/{t}"))
    return torch.randn(state[None].shape, generator=generator, device=state.device)


def mean_error(
    objective: Objective,
    denoiser: Denoiser,
    states: Sequence[Tensor],
    condition: Callable[[Tensor], Cond],
    t: float,
) -> float:
    """Unweighted error at a level, mean over states (C, h, w). condition: what is said of one."""
    total = 0.0
    for k, x0 in enumerate(states):
        noise = fixed_noise(x0, k, t)
        total += float(objective.at(denoiser, x0[None], condition(x0), noise, [t]).mse)
    return total / len(states)


def clip_vectors(clip: Any, pictures: Sequence[Tensor]) -> Tensor:
    """A CLIP's vectors of pictures (1, 3, H, W) in [-1, 1]."""
    sides = (clip.size, clip.size)
    resized = [F.interpolate(x, sides, mode="bilinear", antialias=True) for x in pictures]
    batch = torch.cat(resized)
    vectors: Tensor = clip.image(batch, torch.zeros(len(batch), device=batch.device))
    return vectors


def agreement(
    clip: Any,
    photos: Sequence[Tensor],
    subject: Sequence[Tensor],
    of_class: Sequence[Tensor],
    class_text: str,
) -> dict[str, float]:
    """How much generated pictures (1, 3, H, W) of the subject are its photos', the class's text's,
    and each other's; and how much the class has become the subject."""
    real, mine, others = (clip_vectors(clip, each) for each in (photos, subject, of_class))
    text = clip.text([class_text]).expand(len(mine), -1)
    return {
        "subject fidelity": float(fidelity.subject_fidelity(mine, real).mean()),
        "text fidelity": float(fidelity.prompt_fidelity(mine, text).mean()),
        "class as subject": float(fidelity.pres(others, real).mean()),
        "diversity": fidelity.diversity(1 - mine @ mine.T),
    }


def guidance_of(model: Model) -> float:
    """The card's guidance scale."""
    scales = [m["scale"] for m in model.card.defaults.methods if m.get("method") == "cfg"]
    return float(scales[0]) if scales else 1.0
