"""Every scheduler of diffusers, and every key of theirs, is read or refused by its name."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import diffusers
import pytest
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from sfumato.core.errors import SfumatoError
from sfumato.models.files import flow_schedulers, schedulers

CLASSES = {
    name: cls
    for name in dir(diffusers)
    if name.endswith("Scheduler")
    and inspect.isclass(cls := getattr(diffusers, name))
    and issubclass(cls, SchedulerMixin)
}
READ = {*schedulers.TABLED, *flow_schedulers.CLASSES}
OF_SOLVERS = {
    "algorithm_type", "corrector_order", "disable_corrector", "dynamic_thresholding_ratio",
    "euler_at_final", "lower_order_final", "noise_sampler_seed", "predict_x0", "predictor_order",
    "solver_order", "solver_p", "solver_type", "tau_func",
}  # fmt: skip
"""Keys that say how a state is moved: solvers of a scheduler's file are not taken over."""
OF_FLOWS = {"flow_shift", "use_dynamic_shifting", "time_shift_type", "shift_terminal"}
"""Keys that nothing reads unless use_flow_sigmas, which is refused."""


def written(folder: Path, data: Any) -> Path:
    file = folder / "scheduler_config.json"
    file.write_text(json.dumps(data))
    return file


def keys_of(kind: str) -> dict[str, Any]:
    """key -> its default."""
    told = inspect.signature(CLASSES[kind].__init__).parameters
    return {name: one.default for name, one in told.items() if name not in ("self", "kwargs")}


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_a_scheduler_is_read_or_refused_by_its_class(tmp_path: Path, kind: str) -> None:
    file = written(tmp_path, {"_class_name": kind})
    readers = {schedulers.scheduler: schedulers.TABLED,
               flow_schedulers.flow_scheduler: flow_schedulers.CLASSES}  # fmt: skip
    for read, classes in readers.items():
        if kind in classes:
            assert read(file).kind == kind
        else:
            with pytest.raises(SfumatoError, match=f"scheduler '{kind}'"):
                read(file)


def test_the_list_of_schedulers_is_not_empty() -> None:
    assert len(CLASSES) > 30
    assert set(READ) & set(CLASSES), "none of those that are read is there"


@pytest.mark.parametrize("kind", sorted(READ & set(CLASSES)))
def test_every_key_of_a_scheduler_has_a_reader(kind: str) -> None:
    flow = kind in flow_schedulers.CLASSES
    known = set((flow_schedulers.FlowScheduler if flow else schedulers.Scheduler).model_fields)
    passed_over = set() if flow else OF_SOLVERS | OF_FLOWS
    assert set(keys_of(kind)) <= known | passed_over


@pytest.mark.parametrize("key", sorted(keys_of("FlowMatchEulerDiscreteScheduler")))
def test_keys_of_a_flows_scheduler_are_their_class_s_or_refused(tmp_path: Path, key: str) -> None:
    kind = "FlowMatchEulerDiscreteScheduler"
    default = keys_of(kind)[key]
    plain = flow_schedulers.flow_scheduler(written(tmp_path, {"_class_name": kind}))
    assert getattr(plain, key) == default
    field = flow_schedulers.FlowScheduler.model_fields[key]
    kinds = (field.annotation, *get_args(field.annotation))
    if any(get_origin(one) is Literal and get_args(one) == (False,) for one in kinds):
        with pytest.raises(SfumatoError, match=key):
            flow_schedulers.flow_scheduler(written(tmp_path, {"_class_name": kind, key: True}))
    with pytest.raises(SfumatoError, match=key):
        flow_schedulers.flow_scheduler(written(tmp_path, {"_class_name": kind, key: "nonsense"}))
