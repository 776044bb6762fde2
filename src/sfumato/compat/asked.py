"""What a call asks for: its arguments read, or refused by their names."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from sfumato.compat import drawing, pictures
from sfumato.compat.families import Family
from sfumato.compat.pictures import Pictures, check_numbers
from sfumato.compat.schedulers import Scheduler
from sfumato.core.denoiser import traits
from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import PICTURES, STEPS, Range, real, whole, words
from sfumato.models.files.flow_schedulers import FlowScheduler
from sfumato.models.model import Model
from sfumato.models.shifts import MIDDLE

log = logging.getLogger("sfumato")

UNCLEAN = re.compile(r"https?:|www\.|<|@|&\w+;")
Hear = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Asked:
    """What a call asks for.

    pipe: whom callbacks are told of. prompts, negatives: one a picture. hear: callback_on_step_end.
    """

    pipe: Any
    given: Mapping[str, Any]
    model: Model
    prompts: tuple[str, ...]
    negatives: tuple[str, ...] | None
    steps: int
    strength: float
    pictures: Pictures
    generator: Any
    hear: Hear | None

    @classmethod
    def of(cls, pipe: Any, given: Mapping[str, Any]) -> Asked:
        prompts = _prompts(given)
        each = whole(given["num_images_per_prompt"], "num_images_per_prompt", PICTURES)
        negative = given.get("negative_prompt")
        negatives = None if negative is None else _texts(negative, "negative_prompt")
        if negatives is not None and len(negatives) not in (1, len(prompts)):
            raise SfumatoError(
                f"negative_prompt: {len(negatives)} for {len(prompts)} prompts; give as many"
            )
        if negatives is not None and len(negatives) == 1:
            negatives *= len(prompts)
        n = whole(len(prompts) * each, "num_images_per_prompt", PICTURES)
        steps = whole(given["num_inference_steps"], "num_inference_steps", STEPS)
        _check_middle(given, steps)
        _check_heard(given)
        model = pipe.model
        if traits(model.denoiser.network).inpaint and pipe.task != "inpaint":
            raise SfumatoError(
                f"{type(pipe).__name__}: this network was tuned for inpainting; take "
                f"{pipe.family.name}InpaintPipeline"
            )
        strength = real(given.get("strength", 1.0), "strength", Range(0, 1))
        flow = isinstance(pipe.scheduler.record, FlowScheduler)
        if (steps * strength if flow else int(steps * strength)) == 0:
            raise SfumatoError(
                f"strength = {strength:g}: keeps none of {steps} steps; give more of either"
            )
        prepared = pictures.prepared(model, pipe.family, pipe.task, given)
        for pixels in (prepared.picture, *prepared.beside):
            if pixels is not None and len(pixels) > 1 and (each > 1 or n % len(pixels)):
                raise SfumatoError(
                    f"image: {len(pixels)} pictures for {n} results; give one, or as many"
                )
        picture, mask = prepared.picture, prepared.mask
        if mask is not None and picture is not None and len(mask) not in (1, len(picture)):
            raise SfumatoError(f"mask_image: {len(mask)} for {len(picture)} pictures; give as many")
        return cls(
            pipe,
            given,
            model,
            tuple(text for text in prompts for _ in range(each)),
            None if negatives is None else tuple(t for t in negatives for _ in range(each)),
            steps,
            strength,
            prepared,
            drawing.checked(given["generator"], n),
            given.get("callback_on_step_end"),
        )

    @property
    def family(self) -> Family:
        family: Family = self.pipe.family
        return family

    @property
    def scheduler(self) -> Scheduler:
        scheduler: Scheduler = self.pipe.scheduler
        return scheduler

    @property
    def flows(self) -> bool:
        """Whether the scheduler is a flow's."""
        return isinstance(self.scheduler.record, FlowScheduler)

    @property
    def n(self) -> int:
        return len(self.prompts)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.n, *self.model.shape(self.pictures.size.work))


def _prompts(given: Mapping[str, Any]) -> tuple[str, ...]:
    """A text a picture of those that num_images_per_prompt counts; empty ones where none is read,
    or where a picture stands for them."""
    if "prompt" not in given:
        return ("",) * len(vectors(given["image_embeds"], "image_embeds"))
    if given["prompt"] is None and "noise_level" in given:
        image = given.get("image")
        return ("",) * (len(image) if isinstance(image, list) else 1)
    texts = _texts(given["prompt"], "prompt")
    if given.get("clean_caption") and any(UNCLEAN.search(text) for text in texts):
        log.warning("clean_caption: links, tags and names are left in the prompt")
    return texts


def vectors(value: Any, name: str) -> torch.Tensor:
    """(B, W), of a tensor or a list of them."""
    rows = list(value) if isinstance(value, list | tuple) else [value]
    if not rows or not all(isinstance(row, torch.Tensor) and row.ndim == 2 for row in rows):
        raise SfumatoError(
            f"{name} = {value!r:.60}: give the prior's tensor (pictures, width), or a list of them"
        )
    if len({row.shape[1] for row in rows}) > 1:
        raise SfumatoError(f"{name}: rows of several widths; give those of one prior")
    for row in rows:
        check_numbers(row, name)
    return torch.cat(rows)


def _texts(value: Any, name: str) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not texts:
        raise SfumatoError(f"{name} = {value!r:.60}: give a text or a list of texts")
    return tuple(words(text, name) for text in texts)


def _check_middle(given: Mapping[str, Any], steps: int) -> None:
    """Sana Sprint's second angle of two."""
    wanted = MIDDLE if steps == 2 else None
    middle = given.get("intermediate_timesteps", wanted)
    if middle is not None:
        middle = real(middle, "intermediate_timesteps", Range(0, 2))
    if middle != wanted:
        raise SfumatoError(f"intermediate_timesteps: give {wanted} with {steps} steps, as theirs")


def _check_heard(given: Mapping[str, Any]) -> None:
    callback = given.get("callback_on_step_end")
    if callback is not None and not callable(callback):
        raise SfumatoError(f"callback_on_step_end = {callback!r:.60}: must be callable")
    with suppress(ValueError):  # of what is built in, nothing is known
        try:
            if callback is not None:
                inspect.signature(callback).bind(None, 0, 0, {})
        except TypeError as error:
            raise SfumatoError(
                f"callback_on_step_end: {error}; it is called with pipe, i, t, kwargs"
            ) from None
    wanted = given.get("callback_on_step_end_tensor_inputs", [])
    wanted = getattr(callback, "tensor_inputs", wanted)
    if not isinstance(wanted, list | tuple):
        raise SfumatoError(f"callback_on_step_end_tensor_inputs = {wanted!r:.60}: give ['latents']")
    if other := [name for name in wanted if not isinstance(name, str) or name != "latents"]:
        raise SfumatoError(
            f"callback_on_step_end_tensor_inputs: {other[0]!r:.60} is not supported, latents are"
        )
