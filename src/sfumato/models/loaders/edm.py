"""Models of EDM's kind (arXiv 2206.00364), by their scheduler's file: Playground 2.5 and CosXL.

Their networks read ln(sigma)/4. One that predicts v, scaled for data of deviation 1, says what a
variance-preserving one says: x0 = alpha x - sigma v.
"""

from __future__ import annotations

import math
from functools import partial

from sfumato.core.denoiser import Denoiser, Kind, Network
from sfumato.core.ladder import Ladder
from sfumato.core.schedule import Schedule, ratio
from sfumato.models.card import Defaults
from sfumato.models.files.edm_schedulers import EdmScheduler


def kind_of(config: EdmScheduler) -> Kind:
    """How the network's output is read."""
    return "v" if config.prediction_type == "v_prediction" else "edm"


def ladder(config: EdmScheduler) -> Ladder:
    """The levels that the file names."""
    power = 1 / config.rho if config.sigma_schedule == "karras" else 0.0
    return Ladder(config.sigma_min, config.sigma_max, power, config.num_train_timesteps)


def denoiser(network: Network, config: EdmScheduler) -> Denoiser:
    """The network with its scales."""
    schedule = ladder(config)
    return Denoiser(
        network,
        schedule,
        kind_of(config),
        code=partial(_code, schedule),
        sigma_data=config.sigma_data,
    )


def _code(schedule: Schedule, t: float) -> float:
    """What the network reads of a time."""
    return math.log(ratio(schedule, t)) / 4


def defaults(config: EdmScheduler, guided: bool) -> Defaults:
    """Playground's scale where there are prompts, and the file's levels from whatever start."""
    karras = config.sigma_schedule == "karras"
    scale = 3.0 if kind_of(config) == "edm" else 5.0
    spacing = "logsnr" if not karras else "karras" if config.rho == 7 else "model"
    methods = ({"method": "cfg", "scale": scale},) if guided else ()
    return Defaults(25, "dpmpp-2m", spacing, methods)
