"""Inpainting masks of training: which parts of a picture are known."""

from __future__ import annotations

import math
from random import Random

import torch
from torch import Tensor

from sfumato.core.noise import keyed


def erased(step: int, n: int, size: int, seed: int, device: str = "cpu") -> Tensor:
    """Inpainting masks (n, 1, size, size), 1 = known: how much and where is this project's choice.

    Half of the pictures know nothing (all 0), the plain model. Of the rest two thirds lose one to
    four turned boxes and ellipses, one third keeps only those.
    """
    rng = Random(keyed(f"{seed}/mask/{step}"))
    shapes, inverse, plain = [], [], []
    for _ in range(n):
        plain.append(rng.random() < 0.5)
        inverse.append(rng.random() < 1 / 3)
        count = rng.randint(1, 4)
        shapes.append([_shape(rng) if k < count else (0.0,) * 6 for k in range(4)])
    table = torch.tensor(shapes, device=device)[..., None, None]
    x, y, wide, high, turn, box = table.unbind(2)
    axis = (torch.arange(size, device=device) + 0.5) / size * 2 - 1
    dx, dy = axis[None, :] - x, axis[:, None] - y
    u = (dx * turn.cos() + dy * turn.sin()).abs() / wide.clamp_min(1e-6)
    v = (dy * turn.cos() - dx * turn.sin()).abs() / high.clamp_min(1e-6)
    inside = torch.where(box > 0.5, torch.maximum(u, v), u * u + v * v) < 1
    hole = (inside & (wide > 0)).any(1, keepdim=True)
    keep_shapes = torch.tensor(inverse, device=device)[:, None, None, None]
    known = torch.where(keep_shapes, hole, ~hole).float()
    known[torch.tensor(plain, device=device)] = 0
    return known


def _shape(rng: Random) -> tuple[float, ...]:
    """Centre, half sides, angle, and whether it is a box."""
    return (
        rng.uniform(-0.9, 0.9),
        rng.uniform(-0.9, 0.9),
        rng.uniform(0.12, 0.7),
        rng.uniform(0.12, 0.7),
        rng.uniform(0, math.pi),
        float(rng.random() < 0.5),
    )
