"""Cascade: a base process and its upsamplers with Process's interface; how stages hand over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sfumato import images
from sfumato.core.denoiser import Cond
from sfumato.core.noise import Noise
from sfumato.core.plan import calls as planned
from sfumato.core.process import Method, Process, name_of
from sfumato.core.run import Loop, Run, Step
from sfumato.models.result import Result

CACHED = 1 << 17
"""Pixels of an upsampler's call on the CPU: a batch of 16 then takes 2.1 s a picture, not 3.0."""


@dataclass(frozen=True, eq=False, repr=False)
class Cascade:
    """Methods go to the base, or to every stage where the method says stages = "all"."""

    base: Process
    upsamplers: tuple[Process, ...]

    def __repr__(self) -> str:
        count = len(self.upsamplers)
        return f"{self.base!r}\n  then {count} upsampler{'s' if count > 1 else ''}"

    def __or__(self, method: Method) -> Cascade:
        base, upsamplers = self.base | method, self.upsamplers
        if getattr(method, "stages", "base") == "all":
            upsamplers = tuple(process | method for process in upsamplers)
        return Cascade(base, upsamplers[: base.stages - 1])  # a method may need fewer

    def without(self, name: str) -> Cascade:
        """The same cascade with the method of that name left out wherever it was composed."""
        reached = self._reached(name)
        return Cascade(
            self.base.without(name),
            tuple(p.without(name) if reached else p for p in self.upsamplers),
        )

    def revised(self, name: str, **values: Any) -> Cascade:
        """The same cascade with fields of the method of that name changed where it was composed."""
        reached = self._reached(name)
        return Cascade(
            self.base.revised(name, **values),
            tuple(p.revised(name, **values) if reached else p for p in self.upsamplers),
        )

    def _reached(self, name: str) -> bool:
        """Whether the base's method of that name went to the upsamplers too."""
        return any(
            name_of(method) == name and getattr(method, "stages", "base") == "all"
            for method in self.base.methods
        )

    def based(self, **values: Any) -> Cascade:
        """The same methods on a base with other fields: n, n_steps, prompt, size, ..."""
        return Cascade(self.base.based(**values), self.upsamplers)

    @property
    def methods(self) -> tuple[Method, ...]:
        return self.base.methods

    @cached_property
    def calls(self) -> list[int]:
        """Network calls that each stage will make."""
        with torch.no_grad():
            calls = Walk(self, 0, None, False, unwalked=True).calls()
        return calls + [0] * (1 + len(self.upsamplers) - len(calls))

    def needed(self, frame: images.Frame | None) -> tuple[Process, ...]:
        """The upsamplers up to the result's size: what would only be made smaller is not made."""
        model: Any = self.base.source
        for k in range(len(self.upsamplers)):
            if frame is not None and frame.reaches(model.card.factor(k + 1)):
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
        return Walk(self, seed, noise, detach).steps(x)

    def sample(
        self,
        seed: int = 0,
        *,
        noise: Noise | None = None,
        progress: Callable[[Step], None] | None = None,
    ) -> Result:
        """Run all stages."""
        with torch.no_grad():
            walk = Walk(self, seed, noise, False)
            trace: list[dict[str, Any]] = []
            for step in walk.steps(None):
                if step.i >= 0 and step.stage == 0:
                    scores = {name: score.tolist() for name, score in step.scores.items()}
                    trace.append({"t": step.t, "s": step.s, "calls": step.calls, **scores})
                if progress is not None:
                    progress(step)
            calls = [run.calls for run in walk.runs]
            calls += [0] * (1 + len(self.upsamplers) - len(calls))
            model: Any = self.base.source
            return model.results(walk.pixels, walk.runs[0], trace, calls)  # type: ignore[no-any-return]

    def invert(self, x0: Tensor, *, t: float = 1.0, guided: bool = False) -> list[Tensor]:
        """The base's deterministic path upwards from x0 (B, C, h, w) at the work size."""
        return self.base.invert(x0, t=t, guided=guided)


class Walk:
    """One run through the stages; `pixels` holds the last stage's picture afterwards.

    unwalked: to count calls only.
    """

    def __init__(
        self,
        cascade: Cascade,
        seed: int,
        noise: Noise | None,
        detach: bool,
        unwalked: bool = False,
    ) -> None:
        self.cascade = cascade
        self.seed = seed
        self.noise = noise
        self.detach = detach
        self.unwalked = unwalked
        self.runs = [self.begin(cascade.base)]
        self.pixels: Tensor | None = None

    def steps(self, x: Tensor | None) -> Iterator[Step]:
        run = self.runs[0]
        if run.untouched:
            if not goes_on(run.process):
                return
            assert run.start is not None
            like = torch.empty((run.n, *run.shape), device=run.device)
            self.pixels = run.decode(run.start.state(run.begin(-1, 0.0, 0.0, 0), like))
        else:
            yield from self.walk(run, x)
        for process in self.cascade.needed(run.frame):
            assert self.pixels is not None
            run = self.enter(process, quantised(self.pixels))
            self.runs.append(run)
            yield from self.walk(run, None)

    def begin(self, process: Process) -> Run:
        return process.plan() if self.unwalked else process.begin(self.seed, self.noise)

    def calls(self) -> list[int]:
        """Network calls of each stage that runs."""
        run = self.runs[0]
        counts = [planned(run)]
        if run.untouched and not goes_on(run.process):
            return counts
        low = run.decode(torch.zeros(1, device=run.device).expand(run.n, *run.shape))
        for process in self.cascade.needed(run.frame):
            self.runs.append(self.enter(process, low))
            counts.append(planned(self.runs[-1]))
            low = low.new_zeros(()).expand(run.n, *self.runs[-1].shape)
        return counts

    def walk(self, run: Run, x: Tensor | None) -> Iterator[Step]:
        for step in Loop(run, self.detach).steps(x):
            yield step
        self.pixels = run.decode(step.x)

    def enter(self, process: Process, low: Tensor) -> Run:
        """An upsampler's run on the picture of the stage before."""
        base = self.runs[0]
        model: Any = base.process.source
        factor = model.card.upsamplers[process.stage - 1].factor
        shape = (low.shape[1], low.shape[2] * factor, low.shape[3] * factor)
        cond = Cond({"low_res": low})
        if process.denoiser.network.config.xf_width:  # type: ignore[attr-defined]
            words = model.encode([base.process.prompt]).rows(base.n)  # GLIDE's reads the text too
            cond = Cond({**words, **cond})
        geometry = None
        if base.frame is not None:
            geometry = images.larger_frame(base.frame, shape[2] // base.frame.work[0])
        rows = rows_of(process.rows_max, shape, base.device)
        bound = replace(process, cond=cond, shape=shape, n=base.n, geometry=geometry, rows_max=rows)
        run = self.begin(bound)
        run.frame = base.frame
        run.process = replace(run.process, source=model)  # for previews only, after binding
        return run


def rows_of(given: int | None, shape: tuple[int, ...], device: Any) -> int | None:
    """Most rows of one call of an upsampler whose states have that shape; None: all of them."""
    if given is None and device == "cpu":  # beyond, maps no longer fit into the cache
        return max(CACHED // (shape[1] * shape[2]), 1)
    return given


def base_of(process: Process | Cascade) -> Process:
    """The process itself, or of a cascade its base."""
    return process.base if isinstance(process, Cascade) else process


def goes_on(base: Process) -> bool:
    """Whether the upsamplers run although the base does not (the start says `upsamples`)."""
    return bool(getattr(base.start, "upsamples", False))


def quantised(pixels: Tensor) -> Tensor:
    """Rounded to the 8-bit grid, as pictures are (GLIDE's reference does not clamp; neither here).

    A run that diverged is not hidden by it: that is found when the picture is made.
    """
    return ((pixels + 1) * 127.5).round() / 127.5 - 1
