"""One call of a pipeline: its arguments, its run in diffusers' order of draws, its pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.compat import drawing, pictures
from sfumato.compat.families import Family
from sfumato.compat.parts import Begun, Heard, Kept
from sfumato.compat.pndm import listed
from sfumato.compat.schedulers import Scheduler
from sfumato.core.context import Call
from sfumato.core.denoiser import Cond, traits
from sfumato.core.errors import SfumatoError
from sfumato.core.process import Process
from sfumato.core.ranges import PICTURES, STEPS, Range, real, whole, words
from sfumato.models.files.flow_schedulers import FlowScheduler
from sfumato.models.loaders.noise_tables import noise_table
from sfumato.models.loaders.unets import KINDS
from sfumato.models.model import Model
from sfumato.models.shifts import Shifted
from sfumato.models.timesteps import index_code, times

log = logging.getLogger("sfumato")

Hear = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Asked:
    """What a call asks for.

    pipe: whom callbacks are told of. prompts, negatives: one a picture. picture: (B, 3, h, w) in
    [-1, 1]; mask: (1 or B, 1, h, w) of 0 and 1. hear: callback_on_step_end.
    """

    pipe: Any
    given: Mapping[str, Any]
    model: Model
    prompts: tuple[str, ...]
    negatives: tuple[str, ...] | None
    steps: int
    strength: float
    size: tuple[int, int]
    picture: Tensor | None
    mask: Tensor | None
    generator: Any
    hear: Hear | None

    @classmethod
    def of(cls, pipe: Any, given: Mapping[str, Any]) -> Asked:
        prompts = _texts(given["prompt"], "prompt")
        each = whole(given["num_images_per_prompt"], "num_images_per_prompt", PICTURES)
        negative = given["negative_prompt"]
        negatives = None if negative is None else _texts(negative, "negative_prompt")
        if negatives is not None and len(negatives) not in (1, len(prompts)):
            raise SfumatoError(
                f"negative_prompt: {len(negatives)} for {len(prompts)} prompts; give as many"
            )
        if negatives is not None and len(negatives) == 1:
            negatives *= len(prompts)
        n = whole(len(prompts) * each, "num_images_per_prompt", PICTURES)
        steps = whole(given["num_inference_steps"], "num_inference_steps", STEPS)
        _check_heard(given)
        model = pipe.model
        if traits(model.denoiser.network).inpaint and pipe.task != "inpaint":
            raise SfumatoError(
                f"{type(pipe).__name__}: this network was tuned for inpainting; take "
                f"{pipe.family.name}InpaintPipeline"
            )
        strength = real(given.get("strength", 1.0), "strength", Range(0, 1))
        if (steps * strength if _is_flow(pipe) else int(steps * strength)) == 0:
            raise SfumatoError(
                f"strength = {strength:g}: keeps none of {steps} steps; give more of either"
            )
        own_size = pipe.family.own_size and pipe.task == "image"
        size, picture, mask = pictures.prepared(model, given, own_size)
        if picture is not None and len(picture) > 1 and (each > 1 or n % len(picture)):
            raise SfumatoError(
                f"image: {len(picture)} pictures for {n} results; give one, or as many"
            )
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
            size,
            picture,
            mask,
            drawing.checked(given["generator"], n),
            given["callback_on_step_end"],
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
    def n(self) -> int:
        return len(self.prompts)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.n, *self.model.shape(self.size))


def run(asked: Asked) -> Any:
    """The pictures of a call, in the form it asks for."""
    with torch.no_grad():
        process, drawn, path = _process(asked)
        space, scheduler = process.space, asked.scheduler
        loop = process.begin(noise=drawn)
        for step in loop.steps():
            x, t = step.x, step.s
            if asked.pipe.interrupt:
                break
        else:
            if loop.run.solver.stochastic:
                drawn.finish(len(path) - 1 - _ends_quietly(asked, path))
        latents = x / process.denoiser.schedule.alpha(t) if scheduler.in_sigma_space else x
        if asked.given["output_type"] == "latent":
            return pictures.packed(latents, asked.family.packed)
        return pictures.shown(space.decode(latents), asked.given["output_type"])


def _is_flow(pipe: Any) -> bool:
    return isinstance(pipe.scheduler.record, FlowScheduler)


def _ends_quietly(asked: Asked, path: tuple[float, ...]) -> bool:
    """Whether theirs draws nothing at the last step: DDPM's, from the table's first entry."""
    record = asked.scheduler.record
    first = 1 / record.num_train_timesteps
    return asked.scheduler.kind.startswith("DDPM") and abs(path[-2] - first) < 1e-9


def _process(asked: Asked) -> tuple[Process, drawing.Drawn, tuple[float, ...]]:
    """The process of a call, what draws its noise, its times."""
    model, path = _scheduled(asked)
    guided = asked.negatives is not None
    distilled = traits(model.denoiser.network).distilled
    methods, reads = asked.family.guidance(asked.given, guided, distilled)
    if guided and not reads:
        log.warning("negative_prompt: does nothing, since nothing guides at this scale")
    solver = asked.scheduler.solver(
        real(asked.given.get("eta", 0.0), "eta", Range(0, 1)), asked.steps
    )
    drawn = drawing.Drawn(asked.generator, asked.shape, model.choice)
    start, canvas = _beginning(asked, model, drawn)
    cond, null = _conditions(asked, model, reads)
    process = model.process(n=asked.n, solver=solver, spacing=path, size=asked.size, stages=1)
    assert isinstance(process, Process)
    process = replace(process, cond=cond, null=null, start=start, canvas=canvas)
    process = replace(process, size=None)  # checked above; the start's state has its own
    if asked.hear is not None:
        process = replace(process, guides=(Heard(_hearing(asked, model, asked.hear)),))
    for method in methods:
        process = process | method
    _say_what_differs(asked)
    return process, drawn, path


def _scheduled(asked: Asked) -> tuple[Model, tuple[float, ...]]:
    """The model as its scheduler says it was trained, and the times of the run."""
    model, record = asked.model, asked.scheduler.record
    kind = asked.scheduler.kind
    if isinstance(model.scheduler, Shifted) != isinstance(record, FlowScheduler):
        what = (
            "a flow, FlowMatchEulerDiscreteScheduler is its"
            if isinstance(model.scheduler, Shifted)
            else "no flow"
        )
        raise SfumatoError(f"{kind}: {model.name} is {what}")
    if isinstance(record, FlowScheduler):
        assert isinstance(model.scheduler, Shifted)
        shifts = replace(model.scheduler, config=record)
        path = shifts.times(asked.shape[1:], asked.steps, asked.strength)
        return replace(model, scheduler=shifts), path
    schedule = noise_table(record)
    code = index_code(record, schedule.steps) or model.denoiser.code
    denoiser = replace(
        model.denoiser, schedule=schedule, kind=KINDS[record.prediction_type], code=code
    )
    places = listed if kind == "PNDMScheduler" else times
    path = places(record, schedule, asked.steps, asked.strength)
    return replace(model, denoiser=denoiser, scheduler=record), path


def _beginning(asked: Asked, model: Model, drawn: drawing.Drawn) -> tuple[Begun, Kept | None]:
    """Start and canvas, with theirs order of draws: picture, noise, masked picture."""
    at_sigma, picture, mask = asked.scheduler.starts_at_sigma, asked.picture, asked.mask
    given = asked.given.get("latents")
    if picture is None:
        noise = (
            drawn.next()
            if given is None
            else pictures.unpacked(given, asked.shape, asked.family.packed)
        )
        return Begun(noise, None, at_sigma), None
    if given is not None:
        raise SfumatoError("latents: are not supported beside a picture; leave them out")
    picture = picture.to(model.choice.device)
    pure = mask is not None and asked.strength == 1 and asked.family.own_size
    tuned = traits(model.denoiser.network).inpaint
    clean = None if pure and tuned else _repeated(_encoded(asked, model, picture), asked.n)
    noise = drawn.next()
    start = Begun(noise, None if pure else clean, at_sigma)
    if mask is None:
        return start, None
    mask = mask.to(picture)
    visible = _repeated(
        drawing.encoded(model.space, picture * (mask < 0.5), asked.generator), asked.n
    )
    cells = _repeated(F.interpolate(mask, size=asked.shape[-2:]), asked.n)
    return start, Kept(visible if clean is None else clean, visible, cells, noise)


def _encoded(asked: Asked, model: Model, picture: Tensor) -> Tensor:
    """The picture's state; theirs has one for each generator of a list, image to image alone."""
    listed = isinstance(asked.generator, list) and asked.mask is None and asked.family.own_size
    picture = _repeated(picture, asked.n) if listed else picture
    return drawing.encoded(model.space, picture, asked.generator)


def _repeated(rows: Tensor, n: int) -> Tensor:
    return rows.repeat(n // len(rows), *[1] * (rows.ndim - 1))


def _conditions(asked: Asked, model: Model, reads: bool) -> tuple[Cond, Cond]:
    """Of the prompts and, where it is read, of what guides away from them: a row a picture, or one
    for all."""
    prompts, negatives = asked.prompts, (asked.negatives or ("",)) if reads else ()
    if asked.family.bracketed:
        prompts, negatives = (tuple(map(_escaped, texts)) for texts in (prompts, negatives))
    conds = [
        model.encode(texts[:1] if len(set(texts)) == 1 else texts, None, (*prompts, *negatives))
        for texts in (prompts, negatives)
        if texts
    ]
    return conds[0], conds[-1]


def _escaped(text: str) -> str:
    """Brackets are text in diffusers."""
    return text.replace("(", r"\(").replace(")", r"\)")


def _texts(value: Any, name: str) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not texts:
        raise SfumatoError(f"{name} = {value!r:.60}: give a text or a list of texts")
    return tuple(words(text, name) for text in texts)


def _check_heard(given: Mapping[str, Any]) -> None:
    callback = given["callback_on_step_end"]
    if callback is None:
        return
    if not callable(callback):
        raise SfumatoError(f"callback_on_step_end = {callback!r:.60}: must be callable")
    wanted = getattr(callback, "tensor_inputs", given["callback_on_step_end_tensor_inputs"])
    if other := [name for name in wanted if name != "latents"]:
        raise SfumatoError(
            f"callback_on_step_end_tensor_inputs: {other[0]!r:.60} is not supported, latents are"
        )


def _hearing(asked: Asked, model: Model, hear: Hear) -> Callable[[Tensor, float, Call], Tensor]:
    """Tells the callback of a step, in diffusers' terms, and reads its answer.

    Of Heun's steps the second of their two calls alone is told.
    """
    scheduler, denoiser = asked.scheduler, model.denoiser
    flow = _is_flow(asked.pipe)

    def index(call: Call) -> int:
        if scheduler.kind == "HeunDiscreteScheduler":
            return min(2 * call.i + 1, 2 * call.transitions - 2)
        return call.i

    def heard(x: Tensor, t: float, call: Call) -> Tensor:
        scale = denoiser.schedule.alpha(t) if scheduler.in_sigma_space else 1.0
        latents = pictures.packed(x / scale, asked.family.packed)
        time = torch.tensor(1000 * call.t if flow else denoiser.time(call.t))
        answer = hear(asked.pipe, index(call), time, {"latents": latents})
        if not isinstance(answer, Mapping):
            raise SfumatoError("callback_on_step_end: must return its dict of tensors")
        given = answer.get("latents", latents)
        if given is latents:
            return x
        return pictures.unpacked(given, asked.shape, asked.family.packed).to(x) * scale

    return heard


def _say_what_differs(asked: Asked) -> None:
    """A line where this scheduler's run is not theirs to the bit of rounding."""
    plain = asked.mask is not None and not traits(asked.model.denoiser.network).inpaint
    if asked.scheduler.kind == "HeunDiscreteScheduler" and plain:
        log.warning(
            "HeunDiscreteScheduler: theirs inpaints between the two evaluations of a step too; "
            "pictures differ from theirs"
        )
