"""Which keys every scheduler of diffusers reads, so that none of a file's is passed over unseen.

A file made from another class's keeps that one's keys, which its own class does not read: those are
left out here too. A key that no class knows, or that nothing here can follow, is refused by name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.synonyms import hinted

log = logging.getLogger("sfumato")

TABLE = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas",
    "prediction_type", "timestep_spacing", "steps_offset",
)  # fmt: skip
CLAMP = ("thresholding", "dynamic_thresholding_ratio", "sample_max_value")
CLIP = ("clip_sample", "clip_sample_range")
RULES = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
FLOW = ("use_flow_sigmas", "flow_shift")
DYNAMIC = ("use_dynamic_shifting", "time_shift_type")
ZERO = ("rescale_betas_zero_snr",)
DPM = (
    *TABLE, *CLAMP, *RULES, *FLOW, *DYNAMIC, "solver_order", "algorithm_type", "solver_type",
    "lower_order_final",
)  # fmt: skip
DDIM = (*TABLE, *CLAMP, *CLIP, *ZERO, "set_alpha_to_one")
LCM = (*DDIM, "original_inference_steps", "timestep_scaling")
EDM = (
    "sigma_min", "sigma_max", "sigma_data", "sigma_schedule", "num_train_timesteps",
    "prediction_type", "rho", "final_sigmas_type",
)  # fmt: skip
DDPM = (*TABLE, *CLAMP, *CLIP, *ZERO, "variance_type")

KEYS: Mapping[str, tuple[str, ...]] = {
    "DDIMParallelScheduler": DDIM,
    "DDIMScheduler": DDIM,
    "DDPMParallelScheduler": DDPM,
    "DDPMScheduler": DDPM,
    "DEISMultistepScheduler": DPM,
    "DPMSolverMultistepScheduler": (
        *DPM, *ZERO, "euler_at_final", "use_lu_lambdas", "final_sigmas_type",
        "lambda_min_clipped", "variance_type",
    ),
    "DPMSolverSDEScheduler": (*TABLE, *RULES, "noise_sampler_seed"),
    "DPMSolverSinglestepScheduler": (
        *(key for key in DPM if key not in ("timestep_spacing", "steps_offset")),
        "final_sigmas_type", "lambda_min_clipped", "variance_type",
    ),
    "EulerAncestralDiscreteScheduler": (*TABLE, *ZERO),
    "EulerDiscreteScheduler": (
        *TABLE, *RULES, *ZERO, "interpolation_type", "sigma_min", "sigma_max", "timestep_type",
        "final_sigmas_type",
    ),
    "HeunDiscreteScheduler": (*TABLE, *RULES, *CLIP),
    "KDPM2AncestralDiscreteScheduler": (*TABLE, *RULES),
    "KDPM2DiscreteScheduler": (*TABLE, *RULES),
    "LMSDiscreteScheduler": (*TABLE, *RULES),
    "PNDMScheduler": (*TABLE, "skip_prk_steps", "set_alpha_to_one"),
    "SASolverScheduler": (
        *TABLE, *CLAMP, *RULES, *FLOW, "predictor_order", "corrector_order", "tau_func",
        "algorithm_type", "lower_order_final", "lambda_min_clipped", "variance_type",
    ),
    "UniPCMultistepScheduler": (
        *(key for key in DPM if key != "algorithm_type"), *ZERO, "predict_x0", "disable_corrector",
        "solver_p", "final_sigmas_type", "sigma_min", "sigma_max", "shift_terminal",
    ),
    "FlowMatchEulerDiscreteScheduler": (
        "num_train_timesteps", "shift", "base_shift", "max_shift", "base_image_seq_len",
        "max_image_seq_len", "invert_sigmas", "shift_terminal", "stochastic_sampling", *RULES,
        *DYNAMIC,
    ),
    "FlowMatchHeunDiscreteScheduler": ("num_train_timesteps", "shift"),
    "SCMScheduler": ("num_train_timesteps", "prediction_type", "sigma_data"),
    "LCMScheduler": LCM,
    "TCDScheduler": LCM,
    "EDMEulerScheduler": EDM,
    "EDMDPMSolverMultistepScheduler": (
        *EDM, *CLAMP, "solver_order", "algorithm_type", "solver_type", "lower_order_final",
        "euler_at_final",
    ),
}  # fmt: skip
"""The arguments of each class that is read here, and of some of their kin, in diffusers 0.42."""

SOLVERS: Mapping[str, Any] = {
    "algorithm_type": ("dpmsolver++", "deis", "data_prediction"),
    "corrector_order": (2,),
    "disable_corrector": ([],),
    "euler_at_final": (False,),
    "lower_order_final": (True, False),
    "noise_sampler_seed": (None,),
    "predict_x0": (True,),
    "predictor_order": (2,),
    "solver_order": (2,),
    "solver_p": (None,),
    "solver_type": ("midpoint", "bh2", "logrho"),
    "tau_func": (None,),
}
"""Keys that say how a state is moved, with what classes take by themselves. A model's solver is
chosen here and not by its file, which is said where the file says anything else."""

OTHERS = frozenset(
    {
        "alpha_cum_end", "alpha_cum_start", "block_length", "clip_denoised", "correct_steps",
        "corrector_k", "corrector_selection", "corrector_selection_tau", "corrector_steps",
        "editing_threshold", "entropy_bound", "eps", "eta", "final_step_size_scale", "gamma",
        "gamma_cum_end", "gamma_cum_start", "mask_token_id", "masking_schedule", "minimal_topk",
        "n_grid", "noise_mode", "num_inference_steps", "num_policy_substeps", "num_vec_classes",
        "original_inference_steps", "rho", "s", "s_churn", "s_max", "s_min", "s_noise",
        "sampling_eps", "scale_factors", "scaler", "schedule_mode", "scheduler_type",
        "sigma_data", "sigma_schedule", "snr", "snr_shift_scale", "stage_range", "stages",
        "t_lim_ode", "t_lim_ode_below", "t_max", "t_min", "tail_step_multiplier", "tail_steps",
        "threshold", "timestep_scaling", "tsr_k", "tsr_sigma", "upscale_mode",
    }
)  # fmt: skip
"""What classes read that are not read here."""

OLD: Mapping[str, tuple[Any, ...]] = {
    "predict_epsilon": (True,),
    "tensor_format": ("pt",),
    "timestep_values": (None,),
}
"""Keys of diffusers before 0.10, with the values that say nothing."""

KNOWN = frozenset(key for keys in KEYS.values() for key in keys) | OTHERS


def own_keys(kind: str, data: Mapping[str, Any], where: object) -> dict[str, Any]:
    """Of a file's entries those that its class reads, "_class_name" with them.

    Raises SfumatoError at a key that no scheduler knows.
    """
    own, kept = KEYS[kind], {"_class_name": kind}
    for key, value in data.items():
        if key in own:
            kept[key] = value
        elif key in OLD and value not in OLD[key]:
            raise SfumatoError(f"{where}: {key} = {value!r:.60} is not supported")
        elif key not in KNOWN and key not in OLD and not key.startswith("_"):
            raise SfumatoError(
                f"{where}: {kind} has no key {quoted(key)}{hinted(key, own)}; leave it out"
            )
    return kept


def say_what_is_not_taken(kind: str, data: Mapping[str, Any], where: object) -> None:
    """A line of the keys that ask for another solver than is chosen here by itself."""
    asked = [key for key, usual in SOLVERS.items() if key in data and data[key] not in usual]
    if asked:
        said = ", ".join(f"{key} {data[key]!r:.40}" for key in asked)
        log.info(
            "%s: the solver of %s is not taken from its file (%s); --solver says it", where, kind,
            said,
        )  # fmt: skip
