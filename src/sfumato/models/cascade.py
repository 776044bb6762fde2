"""Cascade: a base process and its upsamplers with Process's interface; how stages hand over."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from sfumato.core.composition import name_of
from sfumato.core.context import Run, Step
from sfumato.core.denoiser import Cond, traits
from sfumato.core.errors import SfumatoError
from sfumato.core.frame import Frame
from sfumato.core.loop import Loop
from sfumato.core.noise import Noise
from sfumato.core.parts import tell
from sfumato.core.plan import calls as planned
from sfumato.core.process import Composable, Process
from sfumato.core.solvers import solver
from sfumato.core.source import Source
from sfumato.models.result import Result

CACHED_PIXELS = 1 << 17
"""Pixels of an upsampler's call on the CPU: a batch of 16 then takes 2.1 s a picture, not 3.0."""


@dataclass(frozen=True, eq=False, repr=False)
class Cascade:
    """Methods go to the base, or to every stage where the method says stages = "all"."""

    base: Process
    upsamplers: tuple[Process, ...]

    def __repr__(self) -> str:
        count = len(self.upsamplers)
        return f"{self.base!r}\n  then {count} upsampler{'s' if count > 1 else ''}"

    def __or__(self, method: Composable) -> Cascade:
        base, upsamplers = self.base | method, self.upsamplers
        if getattr(method, "stages", "base") == "all":
            upsamplers = tuple(process | method for process in upsamplers)
        refuse_idle_base(base)
        return Cascade(base, upsamplers[: base.stages - 1])  # a method may need fewer

    def without(self, name: str) -> Cascade:
        """The same cascade with the method of that name left out wherever it was composed."""
        reached = self._reaches_upsamplers(name)
        return Cascade(
            self.base.without(name),
            tuple(p.without(name) if reached else p for p in self.upsamplers),
        )

    def revised(self, name: str, **values: Any) -> Cascade:
        """The same cascade with fields of the method of that name changed where it was composed."""
        reached = self._reaches_upsamplers(name)
        return Cascade(
            self.base.revised(name, **values),
            tuple(p.revised(name, **values) if reached else p for p in self.upsamplers),
        )

    def _reaches_upsamplers(self, name: str) -> bool:
        """Whether the base's method of that name went to the upsamplers too."""
        return any(
            name_of(method) == name and getattr(method, "stages", "base") == "all"
            for method in self.base.methods
        )

    def based(self, **values: Any) -> Cascade:
        """The same methods on a base with other fields: n, n_steps, prompt, size, ..."""
        base = self.base.based(**values)
        refuse_idle_base(base)
        return Cascade(base, self.upsamplers)

    @property
    def methods(self) -> tuple[Composable, ...]:
        return self.base.methods

    @cached_property
    def calls(self) -> list[int]:
        """Network calls that each stage will make."""
        with torch.no_grad():
            base = self.base.plan()
            run, counts = base.run, [planned(base)]
            if not run.untouched or upsamples(run.process.start):
                low = run.decode(torch.zeros(1, device=run.device).expand(run.n, *run.shape))
                for process in self.needed_upsamplers(run.frame):
                    loop = self.stage_process(process, run, low).plan()
                    counts.append(planned(loop))
                    low = low.new_zeros(()).expand(run.n, *loop.run.shape)
        return counts + [0] * (1 + len(self.upsamplers) - len(counts))

    @property
    def source(self) -> Source:
        """The model of all stages."""
        assert self.base.source is not None
        return self.base.source

    def stage_process(self, process: Process, base: Run, low: Tensor) -> Process:
        """An upsampler's process on the picture (n, 3, h, w) of the stage before."""
        factor = self.source.factors[process.stage - 1]
        shape = (low.shape[1], low.shape[2] * factor, low.shape[3] * factor)
        cond = Cond({"low_res": low})
        if traits(process.denoiser.network).xf_width:
            prompts = base.process.prompts or [base.process.prompt]
            text = self.source.encode(prompts).rows(base.n)  # GLIDE's reads it too
            cond = Cond({**text, **cond})
        frame = base.frame
        rows = max_rows(process.rows_max, shape, base.device)
        return replace(
            process,
            cond=cond,
            shape=shape,
            n=base.n,
            shared=base.process.shared,
            geometry=None if frame is None else frame.enlarged(shape[2] // frame.work[0]),
            rows_max=rows,
        )

    def needed_upsamplers(self, frame: Frame | None) -> tuple[Process, ...]:
        """The upsamplers up to the result's size: what would only be made smaller is not made."""
        for k in range(len(self.upsamplers)):
            if frame is not None and frame.reaches(math.prod(self.source.factors[:k])):
                return self.upsamplers[:k]
        return self.upsamplers

    @property
    def times(self) -> tuple[float, ...]:
        """Every time the base will visit."""
        return self.base.times

    def steps(
        self,
        x: Tensor | None = None,
        *,
        seed: int = 0,
        noise: Noise | None = None,
        detach: bool = False,
    ) -> Iterator[Step]:
        """The base's steps, then each upsampler's (`step.stage` tells which)."""
        return Walk(self, seed, noise).steps(x, detach=detach)

    def sample(
        self,
        seed: int = 0,
        *,
        noise: Noise | None = None,
        progress: Callable[[Step], None] | None = None,
    ) -> Result:
        """Run all stages."""
        with torch.no_grad():
            walk = Walk(self, seed, noise)
            trace: list[dict[str, Any]] = []
            for loop in walk.stages():
                for step in loop.steps():
                    if step.stage == 0:
                        if step.i < 0:
                            trace.clear()  # of an attempt that was given up
                        else:
                            trace.append(step.scalars)
                    tell(progress, step)
                walk.pixels = loop.run.decode(step.x)
            calls = [loop.calls for loop in walk.loops]
            calls += [0] * (1 + len(self.upsamplers) - len(calls))
            result: Result = self.source.finish(walk.pixels, walk.loops[0].run, trace, calls)
            return result

    def invert(self, x0: Tensor, *, t: float | None = None, guided: bool = False) -> list[Tensor]:
        """The base's deterministic path upwards from x0 (B, C, h, w) at the work size."""
        return self.base.invert(x0, t=t, guided=guided)


class Walk:
    """One run through the stages; `pixels` holds the last stage's picture afterwards."""

    def __init__(self, cascade: Cascade, seed: int, noise: Noise | None) -> None:
        self.cascade = cascade
        self.seed = seed
        self.noise = noise
        self.loops = [cascade.base.begin(seed, noise)]
        self.pixels: Tensor | None = None

    def steps(self, x: Tensor | None = None, *, detach: bool = False) -> Iterator[Step]:
        for loop in self.stages():
            for step in loop.steps(x, detach=detach):
                yield step
            self.pixels, x = loop.run.decode(step.x), None

    def stages(self) -> Iterator[Loop]:
        """The loops that are to be walked, each with its picture in `pixels` before the next."""
        base = self.loops[0]
        if not base.run.untouched:
            yield base
        elif upsamples(base.run.process.start):
            self.pixels = base.run.decode(base.first())
        else:
            return
        for process in self.cascade.needed_upsamplers(base.run.frame):
            assert self.pixels is not None
            upsampling = self.cascade.stage_process(process, base.run, quantise(self.pixels))
            self.loops.append(upsampling.begin(self.seed, self.noise))
            yield self.loops[-1]


def max_rows(rows_max: int | None, shape: tuple[int, ...], device: Any) -> int | None:
    """Most rows of one call of an upsampler whose states have that shape; None: all of them."""
    if rows_max is None and device == "cpu":  # beyond, maps no longer fit into the cache
        return max(CACHED_PIXELS // (shape[1] * shape[2]), 1)
    return rows_max


def base_of(process: Process | Cascade) -> Process:
    """The process itself, or of a cascade its base."""
    if not isinstance(process, Process | Cascade):
        raise SfumatoError(f"process {process!r:.60}: is none; give model.process(...)")
    return process.base if isinstance(process, Cascade) else process


def upsamples(start: Any) -> bool:
    """Whether the upsamplers run although the base does not, as a start says."""
    return bool(getattr(start, "upsamples", False))


BASES_OWN = {"negative": "negative", "label": "label", "n_steps": "steps", "solver": "solver",
             "spacing": "spacing", "size": "size"}  # fmt: skip
"""Fields that act in the base alone, and what a caller names them."""


def refuse_idle_base(base: Process) -> None:
    """Refuse what acts in a base that does not run; what the card says anyway may stay, since
    recipes record all of it."""
    if not upsamples(base.start) or base.source is None:
        return
    start: object = base.start
    unsaid: dict[str, Any] = {**dict.fromkeys(BASES_OWN), "negative": ""}
    asked, start = base.base or base, cast(Any, base.start)
    card = base.source.complete(replace(asked, **unsaid))
    idle = [
        f"{name} = {getattr(asked, field)!r:.60}"
        for field, name in BASES_OWN.items()
        if getattr(asked, field) != unsaid[field] and _value(asked, field) != _value(card, field)
    ]
    idle += [
        name_of(method)
        for method in base.methods
        if method is not start
        and getattr(method, "stages", "all") == "base"
        and method not in card.methods
    ]
    if idle:
        raise SfumatoError(
            f"{name_of(base.start)}: leaves the base out, where {idle[0]} acts; leave that out too"
        )


def _value(process: Process, field: str) -> Any:
    """A field, a solver as what it is."""
    value = getattr(process, field)
    return solver(value) if field == "solver" and value is not None else value


def quantise(pixels: Tensor) -> Tensor:
    """Rounded to the 8-bit grid, as pictures are (GLIDE's reference does not clamp; neither here).

    A run that diverged is not hidden by it: that is found when the picture is made.
    """
    return ((pixels + 1) * 127.5).round() / 127.5 - 1
