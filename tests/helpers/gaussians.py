"""A process of Gaussian data, whose answers are known in closed form."""

from __future__ import annotations

from typing import Any

import sfumato as sf
from conformance.sdedit import gaussian
from sfumato.core.schedule import linear

TABLE = linear()


def process(**values: Any) -> sf.Process:
    """400 coordinates of variance 0.25; ddim with 8 steps where values do not say otherwise."""
    defaults = {"n_steps": 8, "solver": "ddim"}
    return sf.Process(gaussian(TABLE, 0.25), (1, 1, 400), **{**defaults, **values})
