"""Scheduler files of EDM's kind (arXiv 2206.00364): levels of noise from a largest to a least."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import Range
from sfumato.documents import parse_data
from sfumato.models.files.configs import read_config
from sfumato.models.files.network_fields import Foreign

CLASSES = ("EDMDPMSolverMultistepScheduler", "EDMEulerScheduler")


class EdmScheduler(Foreign):
    """What the file of such a scheduler says; absent keys are as its class has them.

    rho: of Karras's levels. sigma_data: deviation of the data that the network was scaled for.
    """

    model_config = ConfigDict(populate_by_name=True)
    kind: str = Field(validation_alias="_class_name")
    sigma_min: Annotated[float, Range(gt=0, le=1)] = 0.002
    sigma_max: Annotated[float, Range(gt=1, le=1e6)] = 80.0
    sigma_data: Annotated[float, Range(gt=0, le=100)] = 0.5
    sigma_schedule: Literal["karras", "exponential"] = "karras"
    num_train_timesteps: Annotated[int, Range(2, 100_000)] = 1000
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    rho: Annotated[float, Range(gt=0, le=100)] = 7.0
    thresholding: Literal[False] = False
    final_sigmas_type: Literal["zero"] | None = "zero"


def edm_scheduler(path: Path) -> EdmScheduler:
    """Such a scheduler's file."""
    config = parse_data(EdmScheduler, read_config(path), str(path))
    if config.prediction_type == "v_prediction" and config.sigma_data != 1:
        raise SfumatoError(
            f"{path}: v_prediction with sigma_data {config.sigma_data:g} is not supported, with 1 "
            "it is"
        )
    return config
