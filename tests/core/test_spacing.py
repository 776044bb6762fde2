"""Named spacings: where they begin and end, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from conformance.sdedit import gaussian
from sfumato.core.errors import SfumatoError
from sfumato.core.process import Process
from sfumato.core.schedule import Cosine, Table, linear
from sfumato.core.spacing import RULES, materialise
from sfumato.models.recording import start_level


@pytest.mark.parametrize("name", [name for name in RULES if name != "leading"])
def test_every_spacing_begins_at_the_start_level_and_takes_its_steps(name: str) -> None:
    for schedule in (Cosine(), linear()):
        times = materialise(name, 12, 0.6, schedule)
        assert (times[0], times[-1], len(times)) == (0.6, 0.0, 13)
        assert list(times) == sorted(set(times), reverse=True)


def test_leading_starts_below_and_the_run_says_so() -> None:
    """Stable Diffusion's DDIM at 50 steps begins at table index 980."""
    assert materialise("leading", 50, 1.0, linear())[:2] == pytest.approx((0.981, 0.961))
    made = Process(gaussian(linear(), 1.0), (1, 2, 2), n_steps=50, solver="ddim", spacing="leading")
    assert start_level(made.begin().run)["t0"] == pytest.approx(0.981)


def test_crash_follows_its_definition_and_begins_without_signal() -> None:
    """sigma = sin^2(pi u / 2), alpha = sqrt(1 - sigma^2), the time that of their angle."""
    levels = [math.sin(math.pi / 2 * k / 8) ** 2 for k in range(8, -1, -1)]
    times = [2 / math.pi * math.atan2(sigma, math.sqrt(1 - sigma**2)) for sigma in levels]
    assert materialise("v-crash", 8, 1.0, Cosine()) == pytest.approx(times, abs=1e-12)
    assert times[0] == 1


def test_more_steps_than_a_spacing_can_place_is_an_error() -> None:
    with pytest.raises(SfumatoError, match="spacing trailing cannot place"):
        materialise("trailing", 600, 0.5, linear())


def test_a_table_that_ends_below_one_takes_its_end_in_float32() -> None:
    """0.4 in float32 is above 0.4; times come from tensors and files in float32."""
    table = Table(linear(50).alpha_bar, tuple(0.4 * (k + 1) / 50 for k in range(50)))
    end = float(np.float32(0.4))
    assert end > 0.4
    assert (table.alpha(end), table.sigma(end)) == (table.alpha(0.4), table.sigma(0.4))
    made = Process(gaussian(table, 1.0), (1, 2, 2), solver="ddim", spacing=(end, 0.2, 0.0))
    exact = Process(gaussian(table, 1.0), (1, 2, 2), solver="ddim", spacing=(0.4, 0.2, 0.0))
    assert made.sample(seed=1).equal(exact.sample(seed=1))
    with pytest.raises(SfumatoError, match="covers"):
        table.sigma(0.4001)
