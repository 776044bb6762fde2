"""Gradient: the length of the guides' push."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import sfumato as sf
from helpers.losses import last, process


def pushes(*methods: Any) -> Tensor:
    """RMS of the move of eps over the RMS of eps, for each picture of one step."""
    one = process(n_steps=1, n=3)
    plain, moved = last(one).pred, last_of(one, methods).pred
    assert plain is not None
    assert moved is not None
    push = (moved.eps - plain.eps).square().mean((1, 2, 3)).sqrt()
    return push / plain.eps.square().mean((1, 2, 3)).sqrt()


def last_of(made: sf.Process, methods: tuple[Any, ...]) -> sf.Step:
    for method in methods:
        made = made | method
    return last(made)


def test_gradient_sets_the_length_of_the_push() -> None:
    variation_, band = sf.TotalVariation(1e-3), sf.LowPass(5.0)
    for losses in ((variation_,), (variation_, band)):
        found = pushes(*losses, sf.Gradient(0.25))
        torch.testing.assert_close(found, torch.full((3,), 0.25), rtol=1e-4, atol=0)
    free = pushes(variation_, band)
    assert float(free.min()) > 0
    cut = float(free.sort().values[1])  # one picture is pushed harder, one less
    clipped = pushes(variation_, band, sf.Gradient(cut, mode="clip"))
    torch.testing.assert_close(clipped, free.clamp_max(cut), rtol=1e-3, atol=0)


def test_gradient_weighs_the_sum_of_two_guides() -> None:
    """Only their ratio matters: ten times both is the same push, in the same direction."""
    one, methods = process(n_steps=1), (sf.TotalVariation(2.0), sf.LowPass(5.0), sf.Gradient(0.3))
    scaled = (sf.TotalVariation(20.0), sf.LowPass(50.0), sf.Gradient(0.3))
    a, b = last_of(one, methods).x, last_of(one, scaled).x
    torch.testing.assert_close(a, b, rtol=1e-3, atol=5e-4)
    other = last_of(one, (sf.TotalVariation(2.0), sf.LowPass(50.0), sf.Gradient(0.3))).x
    assert float((a - other).abs().max()) > 1e-2
