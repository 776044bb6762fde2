"""Edits by the small methods: range, start, kept part, colours, spread."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

import sfumato as sf
from conformance.sdedit import gaussian
from helpers.gaussians import process
from sfumato.core.noise import Seeded
from sfumato.core.schedule import linear
from sfumato.core.spaces import UNIT

TABLE = linear()


def test_threshold_knows_the_range_of_pixels_in_the_state() -> None:
    made = sf.Process(gaussian(TABLE, 4.0), (1, 1, 400), space=UNIT, n_steps=4, solver="ddim")
    x = [step.x for step in (made | sf.Threshold("static")).steps()][-1]
    assert (float(x.min()), float(x.max())) == (0, 1)


def test_start_level_one_noises_the_guide_under_reference() -> None:
    guide = torch.full((1, 1, 400), 3.0)
    plain = next(iter((process() | sf.SDEdit(guide, t0=1)).steps()))
    noised = next(iter((process() | sf.SDEdit(guide, t0=1, composite="reference")).steps()))
    assert torch.equal(plain.x, Seeded(0).draw("prior", 0, 0, plain.x))
    start = Seeded(0).draw("start", 0, 0, plain.x)
    assert torch.allclose(noised.x, TABLE.alpha(1) * guide + TABLE.sigma(1) * start, atol=1e-6)


@pytest.mark.parametrize(("solver", "purpose"), [("ddpm", "step"), ("ddim", "start")])
def test_noise_of_the_kept_part_follows_the_solver(solver: str, purpose: str) -> None:
    guide, mask = torch.zeros(1, 1, 400), torch.zeros(1, 1, 400)
    mask[..., :10] = 1
    made = process(solver=solver) | sf.SDEdit(guide, t0=0.8, mask=mask)
    step = list(made.steps(seed=3))[2]
    drawn = Seeded(3).draw(purpose, 2 if purpose == "step" else 0, 0, step.x)
    kept = (step.x / TABLE.sigma(step.s))[..., 10:]
    assert torch.allclose(kept, drawn[..., 10:], atol=1e-5)


def test_match_colour_takes_the_edited_part_alone() -> None:
    guide = torch.cat([torch.full((1, 1, 200), 0.5), torch.full((1, 1, 200), -0.5)], -1)
    mask = (guide > 0).float()
    edit = sf.SDEdit(guide, t0=0.9, mask=mask, match_colour=True)
    x = (process() | edit).sample()[0]
    assert float(x[guide > 0].mean()) == pytest.approx(0.5, abs=1e-4)
    assert torch.equal(x[guide < 0], guide[guide < 0])


def test_rescaled_guidance_keeps_the_spread_of_x0() -> None:
    def network(x: Tensor, time: Tensor, cond: Any) -> Tensor:
        return x * cond["c"].reshape(-1, 1, 1, 1)

    made = sf.Process(
        sf.Denoiser(network, TABLE, kind="x0"),
        (1, 1, 400),
        cond=sf.Cond({"c": torch.tensor([[0.5]])}),
        null=sf.Cond({"c": torch.tensor([[0.1]])}),
        spacing=(0.5, 0.4),
        solver="ddim",
    )

    def spread(method: Any) -> float:
        *_, last = (made | method).steps(seed=0)
        assert last.pred is not None
        return float(last.pred.x0.std())

    plain = spread(sf.CFG(1))
    assert spread(sf.CFG(5)) > 2 * plain
    assert spread(sf.CFG(5, rescale=1)) == pytest.approx(plain, rel=1e-4)


def test_a_method_file_may_be_the_first_thing_imported() -> None:
    for first in ("sfumato.methods.sdedit", "sfumato.images", "sfumato.cli.main"):
        program = f"import {first}, sfumato; assert sfumato.SDEdit and sfumato.CFG"
        subprocess.run([sys.executable, "-c", program], check=True)


def test_presets_set_fields_and_given_values_win() -> None:
    guide = torch.zeros(1, 1, 1)
    assert sf.SDEdit.preset("compositing", image=guide).t0 == 0.35
    assert sf.SDEdit.preset("compositing", image=guide, t0=0.2).t0 == 0.2
