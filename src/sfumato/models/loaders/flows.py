"""Loader of flow models: a pipeline's folder whose network is a transformer becomes a Model.

What differs from family to family is in a file of its own, found by the transformer's class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sfumato.core.denoiser import Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import Flow as Schedule
from sfumato.models.card import Card, StageCard
from sfumato.models.devices import Choice
from sfumato.models.files import configs
from sfumato.models.files.flow_schedulers import CLASSES, FlowScheduler, flow_scheduler
from sfumato.models.loaders import flux, flux2, qwen_image, sana, sd3, z_image
from sfumato.models.loaders.flow_parts import Flow
from sfumato.models.loaders.pipeline_parts import PipelineParts
from sfumato.models.model import Model
from sfumato.models.shifts import Shifted

FAMILIES: Mapping[str, Callable[[PipelineParts, FlowScheduler], Flow]] = {
    "Flux2Transformer2DModel": flux2.load,
    "FluxTransformer2DModel": flux.load,
    "QwenImageTransformer2DModel": qwen_image.load,
    "SD3Transformer2DModel": sd3.load,
    "SanaTransformer2DModel": sana.load,
    "ZImageTransformer2DModel": z_image.load,
}
"""Family of a pipeline by the class of its transformer."""

SCHEDULERS: Mapping[str, tuple[str, ...]] = {"SanaTransformer2DModel": sana.SCHEDULERS}
"""Classes of schedulers that a family comes with, where those are not all flows'."""


def load(
    name: str, folder: Path, classes: Mapping[str, str], choice: Choice, gguf: Path | None = None
) -> Model:
    """The model of a pipeline's folder. gguf: a file of its transformer's weights."""
    kind = classes["transformer"]
    if kind not in FAMILIES:
        raise SfumatoError(
            f"{folder}: {classes['_class_name']} ({kind}) is not supported; {configs.SUPPORTED} are"
        )
    published = flow_scheduler(
        folder / "scheduler" / "scheduler_config.json", SCHEDULERS.get(kind, CLASSES)
    )
    parts = PipelineParts.of(folder, classes, choice, gguf=gguf)
    family, space = FAMILIES[kind](parts, published), parts.space
    network: Any = family.network
    table = published.num_train_timesteps
    native, multiple = family.cells * space.stride, family.patch * space.stride
    card = Card(
        name=name,
        title=f"{family.title} (flow)",
        base=StageCard(dict(configs.own(network.net.config)), (), "flow", "flow", table),
        native=(native, native),
        multiple=multiple,
        maximum=family.most_cells * space.stride,
        defaults=family.defaults,
    )
    denoiser = Denoiser(network, Schedule(table), "flow", code=family.code, t_min=0.0)
    times = Shifted(published, family.ramp, family.patch)
    return Model(
        name, card, denoiser, (), family.text, choice, parts.digest.hexdigest(), space, folder,
        scheduler=times,
    )  # fmt: skip
