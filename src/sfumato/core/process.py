"""Process: the immutable description of one way to make a picture. `|` declares a method.

Reading a process does nothing: sizes, times and prompts are bound when a run begins (binding.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from sfumato.core.binding import bind, check_state, frame_of, invert, times_of
from sfumato.core.composition import brief, changed, check_needs, name_of, with_methods_own
from sfumato.core.context import Step
from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.errors import SfumatoError, shortened
from sfumato.core.frame import Frame, Size, sides
from sfumato.core.guides import GuideBinder
from sfumato.core.lazy import torch
from sfumato.core.loop import Loop
from sfumato.core.mixture import Branch, distinct, one_mixture
from sfumato.core.noise import Noise
from sfumato.core.parts import check_parts, check_rows, tell
from sfumato.core.plan import calls as planned
from sfumato.core.ranges import COUNT, PICTURES, SEEDS, STEPS, Range, real, whole, words
from sfumato.core.reuse import ASK_ALL, Reuse
from sfumato.core.solvers import Solver, solver, without_noise
from sfumato.core.source import Source
from sfumato.core.spaces import IDENTITY, Space
from sfumato.core.spacing import OWNED, Times, declared, materialise
from sfumato.core.starts import Canvas, Place, Placed, PriorNoise, Start, Worded
from sfumato.core.taps import TapBinder

if TYPE_CHECKING:
    from torch import Tensor

Composable = Callable[["Process"], "Process"]


@dataclass(frozen=True, eq=False, repr=False)
class Process:
    """denoiser and state shape (C, H, W), and what methods added to them.

    prompt, negative, label: text and class; cond, null: given tensors instead, for a process
    without a source. prompts: of each picture, () where all have `prompt`. n: pictures in the
    batch. shared: all are drawn from the first one's noise, upsampled too. n_steps: downward
    transitions of one pass; spacing: its times. size: pixels, (width, height), "input" or "native".
    geometry: of a picture against the work size, for a process without a source (a cascade's
    upsampler). rows_max: most rows in one call, unless a tap couples them. reuse: what steps take
    from earlier ones. methods: what was composed, in order; within: what they composed themselves,
    which a recipe makes again by them.
    """

    denoiser: Denoiser
    shape: tuple[int, ...]
    cond: Cond | None = None
    null: Cond | None = None
    source: Source | None = None
    prompt: str = ""
    prompts: tuple[str, ...] = ()
    negative: str = ""
    label: int | None = None
    n: int = 1
    shared: bool = False
    n_steps: int | None = None
    solver: str | Mapping[str, Any] | Solver[Any] | None = None
    spacing: str | tuple[float, ...] | None = None
    size: Size | None = None
    space: Space = IDENTITY
    stage: int = 0
    stages: int = 1
    device: str = "cpu"
    rows_max: int | None = None
    reuse: Reuse = ASK_ALL
    start: Start | None = None
    canvas: Canvas | None = None
    geometry: Frame | None = None
    positives: tuple[Branch, ...] = ()
    aways: tuple[Branch, ...] = ()
    guides: tuple[GuideBinder, ...] = ()
    taps: tuple[TapBinder, ...] = ()
    methods: tuple[Composable, ...] = ()
    within: tuple[Composable, ...] = ()
    base: Process | None = None

    def __post_init__(self) -> None:
        """Numbers of numpy and torch become Python's; what cannot run is refused at once."""
        check_rows(self)
        keep = partial(object.__setattr__, self)
        keep("n", whole(self.n, "n", PICTURES))
        # 0: a side that the run's size will set, as an upsampler's
        keep("shape", tuple(whole(v, f"shape[{k}]", COUNT) for k, v in enumerate(self.shape)))
        for name, value, allowed in (
            ("n_steps", self.n_steps, STEPS),
            ("label", self.label, COUNT),
            ("stages", self.stages, Range(ge=1)),
            ("rows_max", self.rows_max, Range(ge=1)),
        ):
            if value is not None:
                keep(name, whole(value, "steps" if name == "n_steps" else name, allowed))
        keep("prompts", tuple(self.prompts))
        if self.prompts and len(self.prompts) != self.n:
            raise SfumatoError(f"prompts: {len(self.prompts)} for n = {self.n}; give one a picture")
        keep("spacing", declared(self.spacing))
        keep("size", sides(self.size))
        if self.solver is not None:
            solver(self.solver)
        check_parts(self)

    def __repr__(self) -> str:
        """What it makes and how, in a few lines; nothing is resolved for it."""
        model = None if self.source is None else self.source.name
        what = f"“{self.prompt}”" if self.prompt else "no prompt"
        steps = "" if self.n_steps is None else f", {self.n_steps} steps"
        chosen = getattr(self.solver, "id", self.solver)
        solved = "" if chosen is None else f", solver {chosen}"
        lines = [f"Process{f' of {model}' if model else ''}: {what}, n {self.n}{steps}{solved}"]
        return "\n  | ".join([*lines, *map(brief, self.methods)])

    def __or__(self, method: Composable) -> Process:
        """This process with a method composed; a second one for the same slot is an error."""
        if not callable(method) or isinstance(method, type):
            raise SfumatoError(f"{method!r:.60}: is no method; compose a value such as sf.CFG(3)")
        slot = getattr(method, "slot", None)
        for other in (*self.methods, *self.within):
            if slot is not None and getattr(other, "slot", None) == slot:
                raise SfumatoError(
                    f"{name_of(method)}: the process already has {name_of(other)} as its {slot}; "
                    f"remove that first with process.without({name_of(other)!r})"
                )
        check_needs(method, self.solver)
        changed = method(self)
        own = [m for m in changed.methods if not any(m is known for known in self.methods)]
        return replace(
            changed,
            methods=(*self.methods, method),
            within=(*changed.within, *own),
            base=self.base or self,
        )

    def without(self, name: str) -> Process:
        """The same process with the method of that name left out."""
        self._check_name(name, "without")
        return self.refolded(method for method in self.methods if name_of(method) != name)

    def revised(self, name: str, **values: Any) -> Process:
        """The same process with fields of that method changed; what then does nothing is gone."""
        self._check_name(name, "revised")
        methods: Sequence[Any] = self.methods
        return self.refolded(
            changed(method, values) if name_of(method) == name else method for method in methods
        )

    def based(self, **values: Any) -> Process:
        """The same methods on a base with other fields: n, n_steps, prompt, size, ...

        A prompt gets the model's template, as in Model.process.
        """
        known = [field.name for field in fields(self)]
        if wrong := next((name for name in values if name not in known), None):
            raise SfumatoError(f"based: a process has no {wrong!r:.60}, only {', '.join(known)}")
        if "prompt" in values and self.source is not None:
            values["prompt"] = self.source.phrase(words(values["prompt"], "prompt"))
        base = replace(self.base or self, **values)
        return replace(self, base=base).refolded(self.methods) if self.methods else base

    def refolded(self, methods: Iterable[Composable]) -> Process:
        """The base with these methods composed anew."""
        process = self.base or self
        for method in methods:
            process = process | method
        return process

    def add(
        self,
        *,
        start: Start | None = None,
        canvas: Canvas | None = None,
        solver: Solver[Any] | None = None,
        positives: Sequence[Branch] = (),
        aways: Sequence[Branch] = (),
        guides: Sequence[GuideBinder] = (),
        taps: Sequence[TapBinder] = (),
    ) -> Process:
        """What methods call: put something into a slot, or append to branches, guides and taps."""
        if start is not None and self.start is not None:
            raise SfumatoError("start: the process already has one; a run begins in one place")
        if canvas is not None and self.canvas is not None:
            raise SfumatoError("canvas: the process already keeps a part of a picture")
        one_mixture(self.positives, positives)
        if solver is not None and self.solver is not None:
            raise SfumatoError("solver: the process already has one; leave its solver out")
        for method in (*self.methods, *self.within) if solver is not None else ():
            check_needs(method, solver)
        distinct((*self.positives, *positives, *self.aways, *aways))
        return replace(
            self,
            start=start or self.start,
            canvas=canvas or self.canvas,
            solver=solver or self.solver,
            positives=(*self.positives, *positives),
            aways=(*self.aways, *aways),
            guides=(*self.guides, *guides),
            taps=(*self.taps, *taps),
        )

    def resolved(self) -> Process:
        """With what its methods bring, then the model card's defaults, in every empty slot."""
        process = with_methods_own(self)
        process = process if self.source is None else self.source.complete(process)
        for method in (*process.methods, *process.within):
            check_needs(method, process.solver)
        return process

    @property
    def times(self) -> tuple[float, ...]:
        """Every time the run will visit."""
        return times_of(self.resolved())

    @property
    def start_or_noise(self) -> Start:
        """Its Start, which is pure noise where no method gave one."""
        return self.start or PriorNoise()

    @property
    def place(self) -> Place:
        """Where the run's picture is: the start's, else the canvas's, else a reference's."""
        for part in (self.start_or_noise, self.canvas, *self.guides, *self.taps):
            place = part.place() if isinstance(part, Placed) else Place()
            if place.size is not None or place.shape is not None:
                return place
        return Place()

    def starts_at(self, default: float) -> float:
        """Where a run begins that was given no level: at the first of explicit times."""
        return self.spacing[0] if isinstance(self.spacing, tuple) else default

    def spaced(self, level: float) -> Times:
        """Times of one pass from a level, by the spacing."""
        source = self.source if self.spacing in OWNED else None
        own = None if source is None else source.grid(self)
        return materialise(self.spacing, self.n_steps, level, self.denoiser.schedule, own)

    @cached_property
    def calls(self) -> int:
        """Network calls that a run will make; one split by `rows_max` is one."""
        with torch.no_grad():
            return planned(self.plan())

    def begin(self, seed: int = 0, noise: Noise | None = None) -> Loop:
        """Everything of one run bound: sizes, times, prompts, taps, guides."""
        if noise is not None and not hasattr(noise, "draw"):
            raise SfumatoError(f"noise {noise!r:.60}: is no source; give one with draw, as Tape")
        return bind(self.resolved(), whole(seed, "seed", SEEDS), noise)

    def plan(self) -> Loop:
        """What `begin` binds, for a look at it: no denoiser or autoencoder is called.

        Refuses what a run refuses.
        """
        return bind(self.resolved(), 0, planned=True)

    def steps(
        self,
        x: Tensor | None = None,
        *,
        seed: int = 0,
        noise: Noise | None = None,
        detach: bool = False,
    ) -> Iterator[Step]:
        """Walk the run: the start as i = -1, then each transition.

        x: a first state instead of the Start's. noise: a source instead of the seeded one. Keeps
        gradients; detach=True cuts them between transitions.
        """
        if x is not None:
            check_state(self, x, "x")
        return self.begin(seed, noise).steps(x, detach=detach)

    def sample(
        self,
        seed: int = 0,
        *,
        noise: Noise | None = None,
        progress: Callable[[Step], None] | None = None,
    ) -> Any:
        """Run it. A Result; without a model, the decoded pixels (n, C, H, W)."""
        with torch.no_grad():
            loop = self.begin(seed, noise)
            x = None
            trace: list[dict[str, Any]] = []
            for step in loop.steps():
                x = step.x
                if step.i < 0:
                    trace.clear()  # of an attempt that was given up
                else:
                    trace.append(step.scalars)
                tell(progress, step)
            pixels = None if x is None else loop.run.decode(x)
            if self.source is None:
                return pixels
            return self.source.finish(pixels, loop.run, trace, [loop.calls])

    def invert(self, x0: Tensor, *, t: float | None = None, guided: bool = False) -> list[Tensor]:
        """Deterministic path upwards from the clean state x0 (B, C, ...): states from 0 to t (1, or
        the first of explicit times), by the process's steps and solver; a model's own one draws no
        noise then. Aways are left out unless `guided`, others always.
        """
        check_state(self, x0, "x0")
        process = replace(self.resolved(), start=None, guides=(), taps=())
        if self.solver is None:
            process = replace(process, solver=without_noise(process.solver))
        t = real(process.starts_at(1.0) if t is None else t, "t", Range(gt=0, le=1))
        process = process if guided else replace(process, aways=())
        with torch.no_grad():
            return invert(process, x0, process.spaced(t)[::-1])[0]

    def _check_name(self, name: str, asked: str) -> None:
        names = [name_of(method) for method in self.methods]
        if name not in names:
            has = ", ".join(names) or "none"
            raise SfumatoError(f"{asked}({shortened(repr(name))}): this process has {has}")

    def condition(self, text: str | None, away: bool, source: Source | None = None) -> Cond:
        """The condition of a branch: its own text, else the process's prompt or negative prompt."""
        cond = self.null if away else self.cond
        if text is None and cond is not None:
            return cond
        if self.source is None:
            if away and self.cond is not None:
                raise SfumatoError("guidance: Process(null=...) is missing, the empty condition")
            return Cond()
        prompts = self.prompts if text is None and not away else ()
        if text is None:
            text = self.negative if away else self.prompt
        reads = source or self.source
        return reads.encode(prompts or [text], None if away else self.label, self.texts, away)

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text of a run: where lengths differ, all are brought to the longest."""
        branches = (*self.positives, *self.aways)
        own = [b.cond for b in branches if isinstance(b.cond, str)]
        taps = [text for tap in self.taps if isinstance(tap, Worded) for text in tap.texts]
        return (self.prompt, *self.prompts, *([self.negative] if self.aways else []), *own, *taps)

    def frame(self, place: Place) -> tuple[Frame | None, tuple[int, ...]]:
        """Geometry and state shape of the run."""
        return frame_of(self, place)
