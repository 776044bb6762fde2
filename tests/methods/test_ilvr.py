"""ILVR beyond the reference's fixtures: any size and factor, any solver, with other methods."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import sfumato as sf
from sfumato.core.denoiser import Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.process import Process
from sfumato.core.schedule import squared_cosine
from sfumato.core.solvers import DDIM, DDPM, PLMS, DPMpp2M
from sfumato.methods.ilvr import ILVR
from sfumato.nn.resize import KERNELS, LowPass, matrix

NAMES = [*KERNELS, "box"]
SCHEDULE = squared_cosine()


def process(solver: Any = None, n: int = 2, steps: int = 20, size: int = 16) -> Process:
    """Data N(0, 1/4) in every pixel: eps = s x / V."""

    def network(x: torch.Tensor, time: torch.Tensor, cond: Any) -> torch.Tensor:
        t = (float(time[0]) + 1) / 1000
        a, s = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
        return s * x / (a**2 * 0.25 + s**2)

    return Process(
        Denoiser(network, SCHEDULE), (3, size, size), n=n, n_steps=steps, solver=solver or DDIM()
    )


@pytest.mark.parametrize("kernel", NAMES)
@pytest.mark.parametrize("size", [(16, 16), (17, 23), (5, 40), (1, 9)])
@pytest.mark.parametrize("factor", [1, 2, 3.7, 8, 64])
def test_every_size_and_factor_keeps_constants_and_has_its_adjoint(
    kernel: str, size: tuple[int, int], factor: float
) -> None:
    phi = LowPass(factor, kernel)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, *size, generator=generator).double() for _ in range(2))
    assert phi(a).shape == a.shape
    torch.testing.assert_close(phi(torch.ones_like(a)), torch.ones_like(a))
    torch.testing.assert_close((phi(a) * b).sum(), (a * phi.adjoint(b)).sum())
    if factor == 1:
        assert torch.equal(phi(a), a)


@pytest.mark.parametrize("kernel", ["cubic", "box"])
def test_a_factor_of_the_side_leaves_the_mean(kernel: str) -> None:
    x = torch.randn(1, 12, 12, generator=torch.Generator().manual_seed(1)).double()
    torch.testing.assert_close(LowPass(12, kernel)(x), x.mean().expand_as(x))


def test_what_the_spec_says_of_the_cubic() -> None:
    """U = N D^T, symmetric, not a projection (0.28 of a mismatch stays for N = 2); box is one."""
    for n in (2, 4, 8):
        down, up = matrix(64, 64 // n), matrix(64 // n, 64)
        torch.testing.assert_close(up, n * down.T, atol=1e-12, rtol=0)
    noise = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(2)).double()
    for n, left in ((2, 0.28), (4, 0.27), (8, 0.24)):
        phi = LowPass(n)
        once = phi(noise)
        assert float((once - phi(once)).norm() / once.norm()) == pytest.approx(left, abs=0.03)
        box = LowPass(n, "box")
        torch.testing.assert_close(box(box(noise)), box(noise))


@pytest.mark.parametrize("solver", [DDIM(), DDIM(1.0), DDPM(), DPMpp2M(), PLMS()])
def test_every_solver_ends_with_the_references_low_band(solver: Any) -> None:
    """With a projection and refinement to the end it is met exactly, the high band is free."""
    reference = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1
    made = (process(solver) | ILVR(reference, factor=4, kernel="box")).sample(seed=1)
    low = LowPass(4, "box")
    torch.testing.assert_close(low(made), low(reference).expand_as(made), atol=1e-5, rtol=0)
    assert float((made[0] - made[1]).abs().mean()) > 0.05
    plain = process(solver).sample(seed=1)
    assert float((low(plain) - low(reference)).abs().mean()) > 0.1


def test_a_factor_of_one_returns_the_reference() -> None:
    reference = torch.rand(3, 16, 16) * 2 - 1
    made = (process(DDPM()) | ILVR(reference, factor=1)).sample(seed=1)
    torch.testing.assert_close(made, reference.expand_as(made), atol=1e-6, rtol=0)


def test_diversity_grows_with_factor_and_stop_and_faithfulness_falls() -> None:
    reference = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1

    def measured(**fields: Any) -> tuple[float, float]:
        made = (process(DDPM(), n=12) | ILVR(reference, **fields)).sample(seed=1)
        low = LowPass(4)
        spread = made.std(0).mean()
        return float(spread), float((low(made) - low(reference)).square().mean())

    factors = [measured(factor=f) for f in (2, 4, 8, 16)]
    stops = [measured(factor=4, stop=s) for s in (0.0, 0.3, 0.6)]
    for found in (factors, stops):
        spreads, gaps = zip(*found, strict=True)
        assert list(spreads) == sorted(spreads)
        assert list(gaps) == sorted(gaps)


def test_one_reference_a_picture_or_one_for_all_and_noise_as_asked() -> None:
    both = torch.rand(2, 3, 16, 16) * 2 - 1
    made = (process() | ILVR(both, factor=4, kernel="box")).sample(seed=1)
    low = LowPass(4, "box")
    torch.testing.assert_close(low(made), low(both), atol=1e-5, rtol=0)
    fresh, fixed = (
        (process() | ILVR(both[0], factor=4, stop=0.3, noise=noise)).sample(seed=1)  # type: ignore[arg-type]
        for noise in ("fresh", "fixed")
    )
    assert not torch.allclose(fresh, fixed)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    image = Image.new("RGB", (80, 64), "white")
    ImageDraw.Draw(image).ellipse((16, 8, 64, 56), fill=(40, 90, 210))
    image.save(tmp_path / "reference.png")
    return tmp_path / "reference.png"


def test_a_cascade_is_held_in_its_base_and_takes_the_references_size(reference: Path) -> None:
    """The result is as large as the reference and has its colours, whatever the prompt says."""
    model = sf.load("emoji", dtype="float32")
    base = model.process("red apple", steps=8)
    held = (base | sf.ILVR(reference, factor=4)).sample(seed=2).images[0]
    assert held.size == (80, 64)
    goal = np.asarray(sf.open_image(reference).resize((5, 4), Image.Resampling.BOX), dtype=float)
    found = np.asarray(held.resize((5, 4), Image.Resampling.BOX), dtype=float)
    free = base.sample(seed=2).images[0].resize((80, 64)).resize((5, 4), Image.Resampling.BOX)
    assert np.abs(found - goal).mean() < 0.4 * np.abs(np.asarray(free, dtype=float) - goal).mean()


def test_all_orders_of_four_methods_give_the_same_bits(reference: Path) -> None:
    model = sf.load("emoji", dtype="float32")
    base = model.process("red apple", steps=2, stages=1)
    mask = Image.new("L", (80, 64))
    mask.paste(255, (20, 10, 60, 50))
    parts = (sf.SDEdit(reference, t0=0.6), sf.ILVR(reference), sf.CFG(2),
             sf.Inpaint(reference, mask=mask, network="plain", resample=2, stretch=1))  # fmt: skip
    made = set()
    for order in itertools.permutations(parts):
        process = base
        for method in order:
            process = process | method
        made.add(process.sample(seed=1).images[0].tobytes())
    assert len(made) == 1


def test_ilvr_composes_with_sdedit_in_either_order(reference: Path, tmp_path: Path) -> None:
    model = sf.load("emoji", dtype="float32")
    base = model.process("red apple", steps=5, stages=1)
    edit, hold = sf.SDEdit(reference, t0=0.6), sf.ILVR(reference, factor=8)
    one, two = ((base | a | b).sample(seed=1).images[0] for a, b in ((edit, hold), (hold, edit)))
    assert one.tobytes() == two.tobytes()
    assert one.tobytes() != (base | edit).sample(seed=1).images[0].tobytes()
    Image.new("RGB", (30, 30), "red").save(tmp_path / "other.png")
    with pytest.raises(SfumatoError, match="the reference is 80x64"):
        (base | sf.SDEdit(tmp_path / "other.png") | hold).sample()


def test_impossible_settings_are_refused(reference: Path) -> None:
    with pytest.raises(SfumatoError, match=r"stop 0\.6 is not below start 0\.5"):
        ILVR(reference, start=0.5, stop=0.6)
    with pytest.raises(SfumatoError, match="factor = 0"):
        ILVR(reference, factor=0)
    assert ILVR.preset("scribble", image=reference).stop == 0.2
