"""Scheduler files of diffusers: what they say of training, times, and the noise of steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import Range
from sfumato.documents import parse_data
from sfumato.models.files.configs import read_config
from sfumato.models.files.network_fields import Foreign
from sfumato.models.files.scheduler_keys import own_keys, say_what_is_not_taken

TABLED = (
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "UniPCMultistepScheduler",
)
"""Schedulers of diffusers whose noise is a table of betas; of the others none is read."""

CLIPPING = ("DDIM", "DDPM")
"""How the names of those begin that clip x0 where their file says nothing."""

VARIANCES: Mapping[str | None, Literal["small", "large"]] = {
    "fixed_small": "small",
    "fixed_small_log": "small",
    "fixed_large": "large",
    "fixed_large_log": "large",
}
"""What variance_type is called here."""

LATENT = {"beta_start": 0.00085, "beta_end": 0.012}
CONSISTENCY = "LCMScheduler"
CLASS_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "DPMSolverSDEScheduler": LATENT,
    "HeunDiscreteScheduler": LATENT,
    "KDPM2AncestralDiscreteScheduler": LATENT,
    "KDPM2DiscreteScheduler": LATENT,
    CONSISTENCY: {**LATENT, "beta_schedule": "scaled_linear"},
}
"""What classes take for absent keys where that is not what the others take."""


class Scheduler(Foreign):
    """What a scheduler's file says of the training, of its times, and of its steps.

    Its solver is not taken over by loading a model; `compat` reads what it says of that.
    """

    model_config = ConfigDict(populate_by_name=True)
    kind: str = Field(validation_alias="_class_name")
    num_train_timesteps: Annotated[int, Range(2, 100_000)] = 1000
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    beta_start: Annotated[float, Range(gt=0, lt=1)] = 1e-4
    beta_end: Annotated[float, Range(gt=0, lt=1)] = 0.02
    trained_betas: (
        Annotated[
            list[Annotated[float, Range(gt=0, lt=1)]], Field(min_length=2, max_length=100_000)
        ]
        | None
    ) = None
    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon"
    rescale_betas_zero_snr: bool = False
    clip_sample: bool | None = None
    clip_sample_range: Annotated[float, Range(gt=0)] = 1.0
    thresholding: bool = False
    sample_max_value: Annotated[float, Range(gt=0)] = 1.0
    variance_type: (
        Literal[
            "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned",
            "learned_range",
        ]
        | None
    ) = None  # fmt: skip
    timestep_spacing: Literal["leading", "linspace", "trailing"] | None = None
    steps_offset: Annotated[int, Range(0, 100_000)] = 0
    set_alpha_to_one: bool | None = None
    skip_prk_steps: bool = False
    final_sigmas_type: Literal["zero", "sigma_min"] | None = "zero"
    lambda_min_clipped: Annotated[float | None, Field(allow_inf_nan=True)] = None  # theirs: -inf
    use_karras_sigmas: bool | None = False
    use_exponential_sigmas: bool | None = False
    use_beta_sigmas: bool | None = False
    use_lu_lambdas: bool | None = False
    sigma_min: Annotated[float, Range(gt=0)] | None = None
    sigma_max: Annotated[float, Range(gt=0)] | None = None
    interpolation_type: Literal["linear", "log_linear"] = "linear"
    use_flow_sigmas: bool | None = False
    original_inference_steps: Annotated[int, Range(1, 100_000)] = 50
    timestep_scaling: Annotated[float, Range(ge=0.001, le=1000)] = 10.0
    flow_shift: Annotated[float, Range(gt=0, le=100)] | None = 1.0
    use_dynamic_shifting: bool | None = False
    time_shift_type: Literal["exponential", "linear"] | None = None
    shift_terminal: Annotated[float, Range(gt=0, lt=1)] | None = None
    dynamic_thresholding_ratio: Annotated[float, Range(0, 1)] = 0.995
    algorithm_type: (
        Literal[
            "dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++", "deis",
            "data_prediction", "noise_prediction",
        ]
        | None
    ) = None  # fmt: skip
    solver_order: Annotated[int, Range(1, 10)] = 2
    solver_type: Literal["midpoint", "heun", "logrho", "bh1", "bh2"] | None = None
    lower_order_final: bool = True
    euler_at_final: bool = False
    predict_x0: bool = True
    disable_corrector: tuple[Annotated[int, Range(0)], ...] = ()
    solver_p: None = None
    predictor_order: Annotated[int, Range(1, 10)] = 2
    corrector_order: Annotated[int, Range(0, 10)] = 2
    tau_func: None = None
    noise_sampler_seed: Annotated[int, Range(0, 1 << 63)] | None = None
    timestep_type: Literal["discrete", "continuous"] | None = "discrete"

    @property
    def clips(self) -> bool:
        """Whether x0 is kept in range."""
        if self.clip_sample is None:
            return self.kind.startswith(CLIPPING)
        return self.clip_sample

    @property
    def variance(self) -> Literal["small", "large"] | None:
        """Of the solver ddpm's steps; None where the file leaves it open, or to the network."""
        default = "fixed_small" if self.kind.startswith("DDPM") else None
        return VARIANCES.get(self.variance_type or default)


def scheduler(path: Path) -> Scheduler:
    """A scheduler's file, of a class that has a noise table."""
    data = read_config(path)
    parsed = scheduler_of(data, path)
    say_what_is_not_taken(parsed.kind, data, path)
    return parsed


def scheduler_of(data: Mapping[str, Any], where: str | Path) -> Scheduler:
    """The same of what such a file says."""
    kind = data.get("_class_name")
    if kind not in TABLED:
        raise SfumatoError(
            f"{where}: scheduler {kind!r:.60} has no noise table; a UNet with one of flow "
            "matching, EDM, VE or consistency is not supported"
        )
    own, name = own_keys(str(kind), data, where), Path(where).name
    whole = parse_data(Scheduler, data, name)  # what no class could follow here is refused of all
    if whole.timestep_type == "continuous":
        raise SfumatoError(
            f"{where}: timestep_type 'continuous' is not supported, models of EDM's kind read it"
        )
    if whole.use_flow_sigmas:
        raise SfumatoError(f"{where}: use_flow_sigmas, a UNet of flow matching is not supported")
    if whole.original_inference_steps > whole.num_train_timesteps:
        raise SfumatoError(
            f"{where}: original_inference_steps {whole.original_inference_steps} is more than "
            f"num_train_timesteps {whole.num_train_timesteps}"
        )
    if whole.variance_type == "learned":
        raise SfumatoError(f"{where}: variance_type 'learned' is not supported, learned_range is")
    return parse_data(Scheduler, {**CLASS_DEFAULTS.get(str(kind), {}), **own}, name)
