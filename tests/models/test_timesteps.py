"""The spacing "model": the times that schedulers of diffusers visit, from their files alone."""

from __future__ import annotations

import itertools
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest

from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import ratio
from sfumato.models.files import schedulers
from sfumato.models.files.flow_schedulers import FlowScheduler
from sfumato.models.loaders.noise_tables import noise_table
from sfumato.models.shifts import Shifted
from sfumato.models.timesteps import times

SHAPED = ("DDIM", "PNDM", "DDPM", "DEISMultistep", "DPMSolverMultistep", "EulerAncestralDiscrete",
          "EulerDiscrete", "HeunDiscrete", "KDPM2AncestralDiscrete", "KDPM2Discrete", "LMSDiscrete",
          "SASolver", "UniPCMultistep", "DPMSolverSDE")  # fmt: skip
LATENT = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
SPACINGS = ("leading", "linspace", "trailing")


ABSENT = {name: ModuleType(name) for name in ("scipy", "scipy.integrate", "torchsde")}
"""What two of theirs import for their steps, and no times need."""
ABSENT["scipy"].integrate = ABSENT["scipy.integrate"]  # type: ignore[attr-defined]


def made(kind: str, **given: Any) -> Any:
    """Theirs, of a class's name without its end."""
    import diffusers

    name, files = (
        f"{kind}Scheduler",
        {"LMSDiscrete": "lms_discrete", "DPMSolverSDE": "dpmsolver_sde"},
    )
    if kind not in files:
        return getattr(diffusers, name)(**given)
    with patch.dict(sys.modules, {k: v for k, v in ABSENT.items() if k not in sys.modules}):
        module = import_module(f"diffusers.schedulers.scheduling_{files[kind]}")
    return getattr(module, name)(**given)


def read(scheduler: Any, folder: Path) -> schedulers.Scheduler:
    """What we read of its file."""
    scheduler.save_pretrained(folder)
    return schedulers.scheduler(folder / "scheduler_config.json")


def cut(n: int, strength: float) -> int:
    """Steps that their image to image leaves out."""
    return max(n - min(int(n * strength), n), 0)


def states(scheduler: Any, n: int, first: int) -> list[float]:
    """Times of the states that theirs visits: its list, cut as its pipelines cut it."""
    steps = scheduler.config.num_train_timesteps
    listed = scheduler.timesteps[first * scheduler.order :].tolist()
    listed = listed[:: scheduler.order]  # of two evaluations a step the first is at the state
    if type(scheduler).__name__ == "PNDMScheduler" and n > 1 and first < 2:
        del listed[1]  # its second one stands twice
    if hasattr(scheduler, "sigmas"):
        last = 0.0 if float(scheduler.sigmas[-1]) == 0 else 1 / steps
    else:
        last = 0.0 if float(getattr(scheduler, "final_alpha_cumprod", 1)) == 1 else 1 / steps
    found = [*((k + 1) / steps for k in listed if k >= 0), last]
    return found[:-1] if found[-2:-1] == found[-1:] else found


def compared(scheduler: Any, folder: Path, counts: tuple[int, ...]) -> int:
    """Times of so many steps, at full and lower strengths, are theirs, or both are refused."""
    config, found = read(scheduler, folder), 0
    schedule = noise_table(config)
    for n in counts:
        try:
            scheduler.set_timesteps(n)
        except ValueError:  # more steps than the table has
            with pytest.raises(SfumatoError, match=f"steps {n}: {config.kind} cannot place"):
                times(config, schedule, n)
            continue
        for strength in (1.0, 0.8, 0.5, 0.29, 0.1):
            first = cut(n, strength)
            wanted = states(scheduler, n, first)
            bad = len(wanted) < 2 or wanted[0] > 1
            bad = bad or any(s >= t for t, s in itertools.pairwise(wanted))
            if bad:
                with pytest.raises(SfumatoError, match=r"steps \d|of \d+ steps that keeps none"):
                    times(config, schedule, n, strength)
            else:
                assert times(config, schedule, n, strength) == pytest.approx(wanted, abs=1e-7)
                found += 1
    return found


@pytest.mark.parametrize("kind", SHAPED)
def test_times_are_those_of_their_scheduler(kind: str, tmp_path: Path) -> None:
    own: dict[str, Any] = {"skip_prk_steps": True} if kind == "PNDM" else {}
    for spacing, offset in itertools.product(SPACINGS, (0, 1)):
        own |= {"timestep_spacing": spacing, "steps_offset": offset}
        assert compared(made(kind, **LATENT, **own), tmp_path, (7, 20, 61)) > 13
        small = made(kind, num_train_timesteps=100, **own)
        assert compared(small, tmp_path, (1, 2, 3, 29, 120)) > 8


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("DDIM", {"set_alpha_to_one": False, "timestep_spacing": "linspace"}),
        ("DDIM", {"num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2"}),
        ("DDIM", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
        ("PNDM", {"set_alpha_to_one": True, "skip_prk_steps": True}),
        ("EulerDiscrete", {"final_sigmas_type": "sigma_min", "timestep_spacing": "trailing"}),
        ("DPMSolverMultistep", {"final_sigmas_type": "sigma_min"}),
        ("DPMSolverMultistep", {"lambda_min_clipped": -5.1, "beta_schedule": "squaredcos_cap_v2"}),
        ("DPMSolverSinglestep", {"lambda_min_clipped": -5.1, "beta_schedule": "squaredcos_cap_v2"}),
        ("SASolver", {"lambda_min_clipped": -3.0, "timestep_spacing": "leading"}),
        ("DPMSolverSinglestep", {}),
        ("UniPCMultistep", {"final_sigmas_type": "sigma_min"}),
        ("DDPMParallel", {}), ("DDIMParallel", {}),
    ],
)  # fmt: skip
def test_other_keys_of_a_scheduler_that_move_its_times(
    kind: str, given: dict[str, Any], tmp_path: Path
) -> None:
    assert compared(made(kind, **given), tmp_path, (2, 5, 20)) > 8


RULED = ("EulerDiscrete", "HeunDiscrete", "LMSDiscrete", "KDPM2Discrete", "DPMSolverMultistep",
         "DPMSolverSinglestep", "DEISMultistep", "UniPCMultistep", "SASolver")  # fmt: skip
LIMITED = {"use_karras_sigmas": True, "sigma_min": 0.1, "sigma_max": 10.0}


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        *((kind, {rule: True}) for kind in RULED
          for rule in ("use_karras_sigmas", "use_exponential_sigmas")),
        ("EulerDiscrete", {"use_karras_sigmas": True, "timestep_spacing": "trailing"}),
        ("DEISMultistep", {"use_karras_sigmas": True, "timestep_spacing": "leading"}),
        ("EulerDiscrete", LIMITED), ("DPMSolverMultistep", {"use_lu_lambdas": True}),
    ],
)  # fmt: skip
def test_levels_by_a_rule_are_theirs(kind: str, given: dict[str, Any], tmp_path: Path) -> None:
    scheduler = made(kind, **LATENT, **given)
    config = read(scheduler, tmp_path)
    schedule = noise_table(config)
    for n, strength in ((7, 1.0), (20, 0.5)):
        scheduler.set_timesteps(n)
        wanted = scheduler.sigmas[cut(n, strength) * scheduler.order :].tolist()
        wanted = list(dict.fromkeys(wanted))
        found = [ratio(schedule, t) for t in times(config, schedule, n, strength)]
        assert found == pytest.approx(wanted, rel=1e-4)  # theirs in float32


@pytest.mark.parametrize(
    ("given", "said"),
    [({"use_beta_sigmas": True}, "use_beta_sigmas of the scheduler's file is not followed"),
     ({"interpolation_type": "log_linear"}, "log_linear of the scheduler's file is not followed"),
     ({"use_karras_sigmas": True, "sigma_max": 80.0}, "sigma_max 80 .* lies beyond its table")],
)  # fmt: skip
def test_what_is_not_followed_is_said(given: dict[str, Any], said: str) -> None:
    config = schedulers.Scheduler(kind="EulerDiscreteScheduler", **LATENT, **given)
    with pytest.raises(SfumatoError, match=said):
        times(config, noise_table(config), 10)


def test_a_share_that_keeps_no_step_says_what_to_give() -> None:
    config = schedulers.Scheduler(kind="DDIMScheduler")
    with pytest.raises(SfumatoError, match=r"t0 0\.05: of 10 steps .* give at least 0\.1, or more"):
        times(config, noise_table(config), 10, 0.05)
    assert len(times(config, noise_table(config), 10, 0.1)) == 2


def test_a_shift_beyond_what_numbers_hold_is_refused() -> None:
    """Dynamic shifts grow with the picture, as fast as a file says."""
    config = FlowScheduler.model_validate(
        {"kind": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True,
         "base_image_seq_len": 4, "max_image_seq_len": 64}
    )  # fmt: skip
    shifted = Shifted(config, "even", 2)
    assert shifted.below((4, 8, 8), 2, 1.0)[0] == 1
    for side in (128, 1024):
        with pytest.raises(SfumatoError, match=r"size: the scheduler's shift is beyond 1e\+09"):
            shifted.below((4, side, side), 2, 1.0)
