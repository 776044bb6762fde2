"""Scheduler files of flow models: how far their times are shifted to the noisy end."""

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
from sfumato.models.files.scheduler_keys import own_keys

CLASSES = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
MULTISTEP = "DPMSolverMultistepScheduler"
"""Which also walks flows, where its file says use_flow_sigmas; Sana's is."""
TRIGONOMETRIC = "SCMScheduler"
"""Whose times are angles, of sines and cosines of a picture and noise; Sana Sprint's is."""
Shift = Annotated[float, Range(gt=0, le=100)]


class FlowScheduler(Foreign):
    """What the file of a flow's scheduler says; absent keys are as its class has them."""

    model_config = ConfigDict(populate_by_name=True)
    kind: str = Field(validation_alias="_class_name")
    num_train_timesteps: Annotated[int, Range(2, 100_000)] = 1000
    shift: Shift = 1.0
    use_dynamic_shifting: bool = False
    base_shift: Annotated[float, Range(-20, 20)] | None = 0.5
    max_shift: Annotated[float, Range(-20, 20)] | None = 1.15
    base_image_seq_len: Annotated[int, Range(1, 1 << 20)] = 256
    max_image_seq_len: Annotated[int, Range(1, 1 << 20)] = 4096
    shift_terminal: Annotated[float, Range(gt=0, lt=1)] | None = None
    time_shift_type: Literal["exponential", "linear"] = "exponential"
    invert_sigmas: Literal[False] = False
    use_karras_sigmas: Literal[False] | None = False
    use_exponential_sigmas: Literal[False] | None = False
    use_beta_sigmas: Literal[False] | None = False
    stochastic_sampling: Literal[False] = False


class MultistepFlow(Foreign):
    """What the file of a multistep scheduler says of a flow."""

    num_train_timesteps: Annotated[int, Range(2, 100_000)] = 1000
    flow_shift: Shift = 1.0
    prediction_type: Literal["flow_prediction"]
    use_flow_sigmas: Literal[True]
    use_dynamic_shifting: Literal[False] = False
    final_sigmas_type: Literal["zero"] | None = "zero"
    use_karras_sigmas: Literal[False] | None = False
    use_exponential_sigmas: Literal[False] | None = False
    use_beta_sigmas: Literal[False] | None = False
    use_lu_lambdas: Literal[False] | None = False
    thresholding: Literal[False] = False


class TrigonometricFlow(Foreign):
    """What the file of a scheduler of angles says; its deviation of data cancels here."""

    num_train_timesteps: Annotated[int, Range(2, 100_000)] = 1000
    prediction_type: Literal["trigflow"] = "trigflow"
    sigma_data: Annotated[float, Range(gt=0, le=100)] = 0.5


def flow_scheduler(path: Path, known: tuple[str, ...] = CLASSES) -> FlowScheduler:
    """A flow's scheduler file, of a class that its family knows."""
    return flow_scheduler_of(read_config(path), path, known)


def flow_scheduler_of(
    data: Mapping[str, Any], where: str | Path, known: tuple[str, ...] = CLASSES
) -> FlowScheduler:
    """The same of what such a file says."""
    kind = data.get("_class_name")
    if kind not in known:
        raise SfumatoError(
            f"{where}: scheduler {kind!r:.60} is not read for this flow model; {', '.join(known)} "
            "are"
        )
    if kind == MULTISTEP:
        said = parse_data(MultistepFlow, own_keys(MULTISTEP, data, where), str(where))
        return FlowScheduler(
            kind=MULTISTEP, num_train_timesteps=said.num_train_timesteps, shift=said.flow_shift
        )
    if kind == TRIGONOMETRIC:
        table = parse_data(TrigonometricFlow, own_keys(TRIGONOMETRIC, data, where), str(where))
        return FlowScheduler(kind=TRIGONOMETRIC, num_train_timesteps=table.num_train_timesteps)
    config = parse_data(FlowScheduler, own_keys(str(kind), data, where), str(where))
    if config.use_dynamic_shifting and config.base_image_seq_len == config.max_image_seq_len:
        raise SfumatoError(f"{where}: base_image_seq_len and max_image_seq_len must differ")
    return config
