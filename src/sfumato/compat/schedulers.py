"""Schedulers by diffusers' names: what they say of times and noise, and which solver is theirs.

A class, or a value of a key, that no solver here follows to the bit of rounding is refused by its
name as soon as the scheduler is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

from sfumato.compat.arguments import lined
from sfumato.compat.pndm import PNDM
from sfumato.compat.switches import MissingError
from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.synonyms import hinted
from sfumato.models.files import flow_schedulers, schedulers
from sfumato.models.files.configs import read_config
from sfumato.models.files.flow_schedulers import MULTISTEP, TRIGONOMETRIC, FlowScheduler
from sfumato.models.files.scheduler_keys import KEYS
from sfumato.models.loaders.sana import CONSISTENT

Record = schedulers.Scheduler | FlowScheduler
Solved = str | dict[str, Any] | PNDM

NO_CLAMP: Mapping[str, tuple[Any, ...]] = {"clip_sample": (False,), "thresholding": (False,)}
STRIDED: Mapping[str, tuple[Any, ...]] = {"timestep_spacing": (None, "leading", "trailing")}
UNFOLLOWED: Mapping[str, tuple[Any, ...]] = {"use_beta_sigmas": (None, False)}

ONLY: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "DDIMScheduler": {**NO_CLAMP, **STRIDED},
    "DDPMScheduler": {**NO_CLAMP, "variance_type": ("fixed_small", "fixed_small_log")},
    "DPMSolverMultistepScheduler": {
        **UNFOLLOWED,
        "thresholding": (False,),
        "solver_order": (1, 2),
        "algorithm_type": (None, "dpmsolver++", "sde-dpmsolver++"),
        "solver_type": (None, "midpoint"),
        "final_sigmas_type": ("zero",),
        "use_exponential_sigmas": (None, False),
        "variance_type": (None,),
    },
    "EulerAncestralDiscreteScheduler": {},
    "EulerDiscreteScheduler": {**UNFOLLOWED, "interpolation_type": ("linear",)},
    "FlowMatchEulerDiscreteScheduler": {},
    "HeunDiscreteScheduler": {**UNFOLLOWED, "clip_sample": (False,)},
    "LCMScheduler": NO_CLAMP,
    TRIGONOMETRIC: {},
    "PNDMScheduler": {
        "skip_prk_steps": (True,),
        "prediction_type": ("epsilon", "v_prediction"),
    },
}
"""Values of keys that are followed; other keys are followed whatever they say, or do nothing beside
these. Clamps are of latents, which have no bounds here."""

USUAL: Mapping[str, Mapping[str, Any]] = {
    "DDIMScheduler": {"clip_sample": True},
    "DDPMScheduler": {"clip_sample": True, "variance_type": "fixed_small"},
    "HeunDiscreteScheduler": {"clip_sample": False},
    "LCMScheduler": {"clip_sample": False},
}
"""What a class takes for absent keys, where the reader leaves that open."""

MEANT: Mapping[str, str] = {
    "DDIMParallelScheduler": "DDIMScheduler",
    "DDPMParallelScheduler": "DDPMScheduler",
    **{kind: kind for kind in ONLY},
}
"""Class -> the one that it steps as."""

SIGMA_SPACE = (
    "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler",
)  # fmt: skip
"""Those whose states are x / alpha."""


class Config(dict[str, Any]):
    """A scheduler's configuration, whose keys are attributes too; `usual` are those not given."""

    def __init__(self, given: Mapping[str, Any], usual: Mapping[str, Any]) -> None:
        super().__init__(given)
        self.__dict__["usual"] = usual

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name in self.usual:
            return self.usual[name]
        raise AttributeError(f"the scheduler's configuration has no {name!r}")


class Scheduler:
    """What a scheduler of diffusers is told; its classes are made by `named`."""

    kind: ClassVar[str] = ""

    @lined
    def __init__(self, **config: Any) -> None:
        self._check(config)
        self._hold(config)

    @classmethod
    def _check(cls, config: Mapping[str, Any]) -> None:
        for key in config:
            if key not in KEYS[cls.kind]:
                hint = hinted(key, KEYS[cls.kind])
                raise SfumatoError(f"{cls.kind}: takes no {quoted(key)}{hint}; leave it out")

    def _hold(self, config: Mapping[str, Any]) -> None:
        self.record = record_of({**config, "_class_name": self.kind})
        own = {key: getattr(self.record, key, None) for key in KEYS[self.kind]}
        usual = {**own, **USUAL.get(MEANT[self.kind], {})}
        self.config = Config({**config, "_class_name": self.kind}, usual)

    @classmethod
    @lined
    def from_config(cls, config: Mapping[str, Any], **changed: Any) -> Self:
        """From another scheduler's configuration; keys of that one's class alone are left out."""
        if not isinstance(config, Mapping):
            raise SfumatoError(f"{cls.kind}: config {config!r:.60}: give pipe.scheduler.config")
        cls._check(changed)
        if odd := [key for key in config if not isinstance(key, str)]:
            raise SfumatoError(f"{cls.kind}: config has a key {odd[0]!r:.60}; keys are texts")
        usual = config.get("_use_default_values", ())  # of another class, which has its own
        if not isinstance(usual, list | tuple):
            raise SfumatoError(f"{cls.kind}: _use_default_values = {usual!r:.60}: must be a list")
        unusual = {key: value for key, value in config.items() if key not in usual}
        scheduler = object.__new__(cls)
        scheduler._hold({**unusual, **changed})
        return scheduler

    @classmethod
    @lined
    def from_pretrained(cls, folder: str | Path, subfolder: str | None = None) -> Self:
        """From the scheduler_config.json of a folder."""
        for one in (folder, "" if subfolder is None else subfolder):
            if not isinstance(one, str | Path):
                raise SfumatoError(f"{cls.kind}.from_pretrained: {one!r:.60}: give a folder")
        place = Path(folder) / ("" if subfolder is None else subfolder)
        return cls.from_config(read_config(place / "scheduler_config.json"))

    def __repr__(self) -> str:
        return f"{self.kind} {json.dumps(self.config, default=repr)}"

    def __getattr__(self, name: str) -> Any:
        raise MissingError(
            f"{self.kind}.{name:.60}: is not here; pipelines walk their steps by themselves"
        )

    @property
    def in_sigma_space(self) -> bool:
        return self.kind in SIGMA_SPACE

    @property
    def starts_at_sigma(self) -> bool:
        """Whether a run begins with noise of deviation sigma, not 1, as states are here."""
        return self.in_sigma_space and self.record.timestep_spacing != "leading"  # type: ignore[union-attr]

    def solver(self, eta: float, n: int) -> Solved:
        """The solver that steps as theirs in n steps; eta: DDIM's."""
        meant, record = MEANT[self.kind], self.record
        if eta and meant != "DDIMScheduler":
            raise SfumatoError(f"eta = {eta:g}: {self.kind} reads none; leave it out")
        if isinstance(record, FlowScheduler):
            own: Mapping[str, Solved] = {MULTISTEP: "dpmpp-2m", TRIGONOMETRIC: dict(CONSISTENT)}
            return own.get(record.kind, "ddim")
        if meant == "PNDMScheduler":
            return PNDM.of_record(record, n)
        if record.timestep_spacing == "trailing" and meant == "DDIMScheduler":
            _check_stride(self.kind, record.num_train_timesteps, n)
        return _solver(meant, record, eta)


class Unsupported(Scheduler):
    """A folder's own scheduler that is not followed: refused by a call, until another is set."""

    def __init__(self, config: Mapping[str, Any], why: SfumatoError) -> None:
        self.config = Config(config, {})
        self.why = why

    def __getattr__(self, name: str) -> Any:
        raise self.why


def _solver(meant: str, record: schedulers.Scheduler, eta: float) -> Solved:
    if meant == "DDIMScheduler":
        return {"solver": "ddim", "eta": eta} if eta else "ddim"
    if meant == "LCMScheduler":
        return {"solver": "lcm", "scaling": record.timestep_scaling}
    if meant == "DDPMScheduler":
        return {"solver": "ddpm", "variance": "small"}
    if meant == "DPMSolverMultistepScheduler":
        noisy = record.algorithm_type == "sde-dpmsolver++"
        if record.solver_order == 1:
            return "ddim"
        return "dpmpp-2m-sde" if noisy else "dpmpp-2m"
    return {"EulerDiscreteScheduler": "ddim", "HeunDiscreteScheduler": "heun"}.get(meant, "euler-a")


def _check_stride(kind: str, steps: int, n: int) -> None:
    """Trailing times of theirs stand a whole stride apart only where n divides the table."""
    if steps % n:
        raise SfumatoError(
            f"{kind}: timestep_spacing 'trailing' is followed where the steps divide {steps}, and "
            f"{n} do not; take another number, or leading"
        )


def record_of(data: Mapping[str, Any]) -> Record:
    """What a configuration says, where a solver here follows all of it."""
    kind = str(data.get("_class_name"))
    if kind not in MEANT:
        raise SfumatoError(f"{refusal(kind)}")
    if kind in (*flow_schedulers.CLASSES, TRIGONOMETRIC):
        return flow_schedulers.flow_scheduler_of(data, kind, (kind,))
    flows = kind == MULTISTEP and data.get("use_flow_sigmas") is True
    if flows and data.get("prediction_type") != "flow_prediction":
        raise SfumatoError(f"{kind}: use_flow_sigmas asks for prediction_type='flow_prediction'")
    plain = {**data, "use_flow_sigmas": False, "prediction_type": "epsilon"} if flows else data
    record = schedulers.scheduler_of(plain, kind)
    meant = MEANT[kind]
    for key, allowed in ONLY[meant].items():
        value = getattr(record, key)
        value = USUAL.get(meant, {}).get(key) if value is None else value
        if value not in allowed:
            known = " or ".join(repr(one) for one in allowed if one is not None)
            raise SfumatoError(f"{kind}: {key} {value!r:.60} is not supported; give {key}={known}")
    if record.solver_order == 1 and record.algorithm_type == "sde-dpmsolver++":
        raise SfumatoError(
            f"{kind}: solver_order 1 with 'sde-dpmsolver++' is not supported; give 2"
        )
    if flows:
        if record.solver_order != 2 or record.algorithm_type == "sde-dpmsolver++":
            raise SfumatoError(
                f"{kind}: of a flow solver_order 2 and 'dpmsolver++' are supported, not "
                f"{record.solver_order} and {record.algorithm_type!r}"
            )
        return flow_schedulers.flow_scheduler_of(data, kind, (MULTISTEP,))
    return record


def refusal(kind: str) -> str:
    """Why a class is refused, and what is nearest to it."""
    word = kind.removesuffix("Scheduler").lower()
    nearest = {
        "unipc": "DPMSolverMultistepScheduler", "deis": "DPMSolverMultistepScheduler",
        "lms": "EulerDiscreteScheduler", "tcd": "DDIMScheduler with eta",
        "dpm": "DPMSolverMultistepScheduler", "ddpm-ancestral": "DDPMScheduler",
    }  # fmt: skip
    near = next((nearest[own] for own in nearest if word.startswith(own)), None)
    hint = "" if near is None else f"the nearest is {near}; "
    return f"scheduler {kind:.60} is not supported; {hint}known are {', '.join(sorted(MEANT))}"


@cache
def named(kind: str) -> type[Scheduler]:
    """The class of a scheduler by its name."""
    if kind not in MEANT:
        raise SfumatoError(refusal(kind))
    return type(
        kind, (Scheduler,), {"kind": kind, "__doc__": f"{kind} of diffusers, as it is told."}
    )


def of_folder(folder: Path) -> Scheduler:
    """What a pipeline's folder says of its scheduler."""
    data = read_config(folder / "scheduler" / "scheduler_config.json")
    try:
        return named(str(data.get("_class_name"))).from_config(data)
    except SfumatoError as error:
        return Unsupported(data, error)


def adopted(scheduler: Any) -> Scheduler:
    """One of ours, or diffusers' own with the same configuration."""
    if isinstance(scheduler, Scheduler):
        return scheduler
    config = getattr(scheduler, "config", None)
    if not isinstance(config, Mapping):
        raise SfumatoError(f"scheduler {scheduler!r:.60}: is none; give one of sfumato.compat's")
    return named(type(scheduler).__name__).from_config({**config})
