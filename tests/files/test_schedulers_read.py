"""Every scheduler of diffusers, and every key of theirs, is read or refused by its name."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import diffusers
import pytest
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from packaging import version

from sfumato.core.errors import SfumatoError
from sfumato.models.files import flow_schedulers, scheduler_keys, schedulers

CLASSES = {
    name: cls
    for name in dir(diffusers)
    if name.endswith("Scheduler")
    and inspect.isclass(cls := getattr(diffusers, name))
    and issubclass(cls, SchedulerMixin)
}
READ = {*schedulers.TABLED, *flow_schedulers.CLASSES}
NEWEST = version.parse(diffusers.__version__) >= version.parse("0.42")


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
    keys = set(keys_of(kind))
    assert keys <= known
    if NEWEST:
        assert keys == set(scheduler_keys.KEYS[kind])
    assert keys <= set(scheduler_keys.KEYS[kind])


def test_keys_of_all_schedulers_are_known() -> None:
    """A file may hold keys of the class that it was made from."""
    assert set(scheduler_keys.KEYS) >= READ
    for kind in set(scheduler_keys.KEYS) & set(CLASSES) if NEWEST else ():
        assert set(scheduler_keys.KEYS[kind]) == set(keys_of(kind))
    every = {key for kind in CLASSES for key in keys_of(kind)} - {"args"}
    assert every <= scheduler_keys.KNOWN


@pytest.mark.parametrize(
    ("kind", "key"),
    [(kind, key) for kind in sorted(READ & set(CLASSES)) for key in keys_of(kind)],
)
def test_a_key_of_another_type_is_refused_by_its_name(tmp_path: Path, kind: str, key: str) -> None:
    read = (
        flow_schedulers.flow_scheduler if kind in flow_schedulers.CLASSES else schedulers.scheduler
    )
    with pytest.raises(SfumatoError, match=key):
        read(written(tmp_path, {"_class_name": kind, key: {"a": "nonsense"}}))


@pytest.mark.parametrize("kind", sorted(READ))
def test_keys_that_no_scheduler_knows_are_refused(tmp_path: Path, kind: str) -> None:
    read = (
        flow_schedulers.flow_scheduler if kind in flow_schedulers.CLASSES else schedulers.scheduler
    )
    with pytest.raises(SfumatoError, match=f"{kind} has no key .use_caras_sigmas."):
        read(written(tmp_path, {"_class_name": kind, "use_caras_sigmas": True}))
    with pytest.raises(SfumatoError, match="predict_epsilon = False is not supported"):
        read(written(tmp_path, {"_class_name": kind, "predict_epsilon": False}))
    old = {"predict_epsilon": True, "tensor_format": "pt", "timestep_values": None}
    assert read(written(tmp_path, {"_class_name": kind, "_diffusers_version": "0.1", **old}))


def test_keys_of_another_class_are_not_read(tmp_path: Path) -> None:
    """As diffusers itself reads such files."""
    data = {"_class_name": "PNDMScheduler", "rescale_betas_zero_snr": True, "clip_sample": True}
    plain = schedulers.scheduler(written(tmp_path, data))
    assert not plain.rescale_betas_zero_snr
    assert not plain.clips


def test_a_solver_that_is_not_taken_over_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sfumato")
    plain = {"_class_name": "DPMSolverMultistepScheduler", "solver_order": 2}
    schedulers.scheduler(written(tmp_path, plain))
    assert not caplog.text
    schedulers.scheduler(written(tmp_path, {**plain, "algorithm_type": "sde-dpmsolver++"}))
    assert "algorithm_type 'sde-dpmsolver++'" in caplog.text


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
