"""One call of a pipeline: its run in diffusers' order of draws, its pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.compat import drawing, pictures
from sfumato.compat.asked import Asked, Hear
from sfumato.compat.beside import Beside, beside
from sfumato.compat.parts import Begun, Heard, Kept
from sfumato.compat.pndm import listed
from sfumato.core.context import Call
from sfumato.core.denoiser import Cond, traits
from sfumato.core.errors import SfumatoError
from sfumato.core.process import Process
from sfumato.core.ranges import Range, real
from sfumato.methods.refine import Refine
from sfumato.models.files.configs import flag
from sfumato.models.files.flow_schedulers import MULTISTEP, TRIGONOMETRIC, FlowScheduler
from sfumato.models.files.schedulers import CONSISTENCY
from sfumato.models.loaders import kandinsky
from sfumato.models.loaders.noise_tables import noise_table
from sfumato.models.loaders.unets import KINDS
from sfumato.models.model import Model
from sfumato.models.shifts import Shifted
from sfumato.models.timesteps import index_code, times

log = logging.getLogger("sfumato")


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
        return _delivered(asked, space, latents)


def _delivered(asked: Asked, space: Any, latents: Tensor) -> Any:
    """In the form that was asked for."""
    form, family = asked.given["output_type"], asked.family
    if form == "latent":
        if family.sides == "klein":
            return space.plain(latents)
        return pictures.packed(latents, family.packed)
    pixels = space.decode(latents)
    if form == "pt" and family.reads == "vectors" and asked.pipe.task != "image":
        return pixels  # which theirs leave in [-1, 1]
    return pictures.shown(pixels, form, asked.pictures.size)


def _ends_quietly(asked: Asked, path: tuple[float, ...]) -> bool:
    """Whether theirs draws nothing at the last step: LCM's; DDPM's, from a table's first entry."""
    record = asked.scheduler.record
    if asked.scheduler.kind == CONSISTENCY:
        return True
    first = 1 / record.num_train_timesteps
    return asked.scheduler.kind.startswith("DDPM") and abs(path[-2] - first) < 1e-9


def _process(asked: Asked) -> tuple[Process, drawing.Drawn, tuple[float, ...]]:
    """The process of a call, what draws its noise, its times."""
    model, path = _scheduled(asked)
    guided = asked.negatives is not None
    distilled = traits(model.denoiser.network).distilled or _without_guidance(asked)
    methods, reads = asked.family.guidance(asked.given, guided, distilled)
    if any(asked.negatives or ()) and not reads:
        log.warning("negative_prompt: does nothing, since nothing guides at this scale")
    solver = asked.scheduler.solver(
        real(asked.given.get("eta", 0.0), "eta", Range(0, 1)), asked.steps
    )
    drawn = drawing.Drawn(asked.generator, asked.shape, model.choice, asked.family.full)
    added = beside(asked, model)
    start, canvas = _beginning(asked, model, drawn)
    cond, null = _conditions(asked, model, reads, added)
    size = asked.pictures.size.work
    process = model.process(n=asked.n, solver=solver, spacing=path, size=size, stages=1)
    assert isinstance(process, Process)
    process = replace(process, cond=cond, null=null, start=start, canvas=canvas)
    process = replace(process, size=None)  # checked above; the start's state has its own
    if asked.hear is not None:
        process = replace(process, guides=(Heard(_hearing(asked, model, asked.hear)),))
    for method in (*methods, *_scores(asked, model)):
        process = process | method
    _say_what_differs(asked)
    return process, drawn, path


def _scores(asked: Asked, model: Model) -> list[Refine]:
    """How beautiful the picture is to be, which XL's refiner alone reads."""
    names, usual = ("aesthetic_score", "negative_aesthetic_score"), (6.0, 2.5)
    if names[0] not in asked.given:
        return []
    told = tuple(real(asked.given[name], name, Range(0, 10)) for name in names)
    if traits(model.denoiser.network).scored:
        return [Refine(score=told[0], away_score=told[1])]
    for name, value, own in zip(names, told, usual, strict=True):
        if value != own:
            raise SfumatoError(f"{name} = {value:g}: XL's refiner alone reads it; leave it out")
    return []


def _without_guidance(asked: Asked) -> bool:
    """Whether the network was distilled to need no guidance: Flux.2 Klein says so of itself."""
    folder = asked.model.folder
    if asked.family.sides != "klein" or folder is None:
        return False
    return flag(folder / "model_index.json", "is_distilled")


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
        own = model.scheduler.config.kind
        others = (MULTISTEP, TRIGONOMETRIC)  # which count their levels otherwise
        if kind != own and (kind in others or own in others):
            raise SfumatoError(f"{kind}: {model.name} was loaded with {own}; give that")
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
    at_sigma, picture, mask = (
        asked.scheduler.starts_at_sigma, asked.pictures.picture, asked.pictures.mask,
    )  # fmt: skip
    latents, family = asked.given.get("latents"), asked.family
    blocks = family.sides == "kandinsky" and mask is not None
    noise = None
    if latents is not None:
        if picture is not None and not blocks:
            raise SfumatoError("latents: are not supported beside a picture; leave them out")
        tokens = 0 if family.sides == "klein" else family.packed
        noise = pictures.unpacked(latents, asked.shape, tokens)
    if picture is None:
        return Begun(drawn.next() if noise is None else noise, None, at_sigma), None
    picture = picture.to(model.choice.device)
    if blocks:
        return _within_blocks(asked, model, drawn.next() if noise is None else noise)
    pure = mask is not None and asked.strength == 1 and family.own_size
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
    pixels = _repeated(mask, asked.n) if family.name == "FluxFill" else None
    return start, Kept(visible if clean is None else clean, visible, cells, noise, pixels)


def _within_blocks(asked: Asked, model: Model, noise: Tensor) -> tuple[Begun, Kept]:
    """Kandinsky's inpainting: from noise alone, and what is kept is put back after every step."""
    picture, mask = asked.pictures.picture, asked.pictures.mask
    assert picture is not None
    assert mask is not None
    if len(picture) > 1 or not traits(model.denoiser.network).inpaint:
        raise SfumatoError(
            "image: one picture is inpainted; give one"
            if len(picture) > 1
            else f"{type(asked.pipe).__name__}: this network was not tuned for inpainting; take "
            "KandinskyV22Pipeline"
        )
    clean = _repeated(model.space.encode(picture.to(noise.device)), asked.n)
    cells = _repeated(F.interpolate(mask.to(noise), size=asked.shape[-2:]), asked.n)
    kept = Kept(clean, clean, cells, noise, drawn=kandinsky.grown(cells))
    return Begun(noise, None, asked.scheduler.starts_at_sigma), kept


def _encoded(asked: Asked, model: Model, picture: Tensor) -> Tensor:
    """The picture's state; theirs has one for each generator of a list, image to image alone."""
    listed = (
        isinstance(asked.generator, list) and asked.pictures.mask is None and asked.family.own_size
    )
    picture = _repeated(picture, asked.n) if listed else picture
    return drawing.encoded(model.space, picture, asked.generator)


def _repeated(rows: Tensor, n: int) -> Tensor:
    return rows.repeat(n // len(rows), *[1] * (rows.ndim - 1))


def _conditions(asked: Asked, model: Model, reads: bool, added: Beside) -> tuple[Cond, Cond]:
    """Of the prompts and, where it is read, of what guides away from them: a row a picture, or one
    for all."""
    prompts, negatives = asked.prompts, (asked.negatives or ("",)) if reads else ()
    if asked.family.bracketed:
        prompts, negatives = (tuple(map(_escaped, texts)) for texts in (prompts, negatives))
    if model.text is None:
        return added.prompt, added.away
    conds = [
        added.of(
            model.encode(
                texts[:1] if len(set(texts)) == 1 else texts, None, (*prompts, *negatives), away
            ),
            away,
        )
        for texts, away in ((prompts, False), (negatives, True))
        if texts
    ]
    return conds[0], conds[-1]


def _escaped(text: str) -> str:
    """Brackets are text in diffusers."""
    return text.replace("(", r"\(").replace(")", r"\)")


def _hearing(asked: Asked, model: Model, hear: Hear) -> Callable[[Tensor, float, Call], Tensor]:
    """Tells the callback of a step, in diffusers' terms, and reads its answer.

    Of Heun's steps the second of their two calls alone is told.
    """
    scheduler, denoiser = asked.scheduler, model.denoiser
    flow = asked.flows

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
        answered = answer.get("latents", latents)
        if answered is latents:
            return x
        return pictures.unpacked(answered, asked.shape, asked.family.packed).to(x) * scale

    return heard


def _say_what_differs(asked: Asked) -> None:
    """A line where this scheduler's run is not theirs to the bit of rounding."""
    plain = asked.pictures.mask is not None and not traits(asked.model.denoiser.network).inpaint
    if asked.scheduler.kind == "HeunDiscreteScheduler" and plain:
        log.warning(
            "HeunDiscreteScheduler: theirs inpaints between the two evaluations of a step too; "
            "pictures differ from theirs"
        )
