"""Process: the immutable description of one way to make a picture. `|` declares a method.

Reading a process does nothing: sizes, times and prompts are bound when a run begins (run.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from sfumato.core.branches import Branch, distinct
from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.lazy import torch
from sfumato.core.noise import Noise
from sfumato.core.run import Loop, Run, Step, bind, counted, invert, times_of
from sfumato.core.solvers import SOLVERS, Solver, solver
from sfumato.core.spaces import IDENTITY, Space
from sfumato.core.spacing import materialise
from sfumato.core.starts import Canvas, Place, PriorNoise, Start

if TYPE_CHECKING:
    from torch import Tensor

Method = Callable[["Process"], "Process"]
Size = int | tuple[int, int] | str


class Source(Protocol):
    """What a process asks of the model it came from."""

    def encode(
        self, texts: Sequence[str], label: int | None = None, beside: Sequence[str] = ()
    ) -> Cond:
        """One row for each text; "" is the null condition. beside: the run's other texts."""
        ...

    def phrase(self, prompt: str) -> str:
        """The prompt that is encoded: with the card's template where it names no style."""
        ...

    def complete(self, process: Process) -> Process:
        """Fill empty slots with the card's defaults."""
        ...

    def frame(self, process: Process, place: Place) -> tuple[Any, tuple[int, ...]]:
        """Geometry of the run and the shape of its state."""
        ...

    @property
    def plain(self) -> Any:
        """The model without its adapters (its denoiser and encode), None where it has none."""
        ...

    def preview(self, step: Step, run: Run) -> Any: ...

    def finish(self, x: Tensor | None, run: Run, trace: list[dict[str, Any]]) -> Any:
        """The last state (None: untouched) -> Result."""
        ...


@dataclass(frozen=True, eq=False)
class Process:
    """denoiser and state shape (C, H, W), and what methods added to them.

    prompt, negative, label: text and class; cond, null: given tensors instead, for a process
    without a source. n: pictures in the batch. n_steps: downward transitions of one pass; spacing:
    its times. size: pixels, (width, height), "input" or "native". geometry: of a picture against
    the work size, for a process without a source (a cascade's upsampler). rows_max: most rows in
    one network call. methods: what was composed, in order; inner: what those composed themselves.
    """

    denoiser: Denoiser
    shape: tuple[int, ...]
    cond: Cond | None = None
    null: Cond | None = None
    source: Source | None = None
    prompt: str = ""
    negative: str = ""
    label: int | None = None
    n: int = 1
    n_steps: int | None = None
    solver: str | Mapping[str, Any] | Solver | None = None
    spacing: str | tuple[float, ...] | None = None
    size: Size | None = None
    space: Space = IDENTITY
    stage: int = 0
    stages: int = 1
    device: str = "cpu"
    rows_max: int | None = None
    start: Start | None = None
    canvas: Canvas | None = None
    geometry: Any = None
    positives: tuple[Branch, ...] = ()
    aways: tuple[Branch, ...] = ()
    guides: tuple[Guide, ...] = ()
    methods: tuple[Method, ...] = ()
    inner: tuple[Method, ...] = ()
    base: Process | None = None

    def __or__(self, method: Method) -> Process:
        """This process with a method composed; a second one for the same slot is an error."""
        slot = getattr(method, "slot", None)
        for other in self.composed:
            if slot is not None and getattr(other, "slot", None) == slot:
                raise SfumatoError(
                    f"{name_of(method)}: the process already has {name_of(other)} as its {slot}; "
                    f"remove that first with process.without({name_of(other)!r})"
                )
        check_needs(method, self.solver)
        changed = method(self)
        own = changed.methods[len(self.methods) :]  # what it composed itself, and will again
        return replace(
            changed,
            methods=(*self.methods, method),
            inner=(*changed.inner, *own),
            base=self.base or self,
        )

    @property
    def composed(self) -> tuple[Method, ...]:
        """Every method of the process, those that others composed among them."""
        return (*self.methods, *self.inner)

    def without(self, name: str) -> Process:
        """The same process with the method of that name left out."""
        names = [name_of(method) for method in self.methods]
        if name not in names:
            raise SfumatoError(f"without({name!r}): this process has {', '.join(names) or 'none'}")
        return self.refolded(method for method in self.methods if name_of(method) != name)

    def revised(self, name: str, **values: Any) -> Process:
        """The same process with fields of its method of that name changed."""
        names = [name_of(method) for method in self.methods]
        if name not in names:
            raise SfumatoError(f"revised({name!r}): this process has {', '.join(names) or 'none'}")
        methods: Sequence[Any] = self.methods
        return self.refolded(
            replace(method, **values) if name_of(method) == name else method for method in methods
        )

    def based(self, **values: Any) -> Process:
        """The same methods on a base with other fields: n, n_steps, prompt, size, ...

        A prompt gets the model's template, as in Model.process.
        """
        if "prompt" in values and self.source is not None:
            values["prompt"] = self.source.phrase(values["prompt"])
        base = replace(self.base or self, **values)
        return replace(self, base=base).refolded(self.methods) if self.methods else base

    def refolded(self, methods: Iterable[Method]) -> Process:
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
        solver: Solver | None = None,
        positives: Sequence[Branch] = (),
        aways: Sequence[Branch] = (),
        guides: Sequence[Guide] = (),
    ) -> Process:
        """What methods call: put something into a slot, or append to the branches and guides."""
        if start is not None and self.start is not None:
            raise SfumatoError("start: the process already has one; a run begins in one place")
        if canvas is not None and self.canvas is not None:
            raise SfumatoError("canvas: the process already keeps a part of a picture")
        if solver is not None and self.solver is not None:
            raise SfumatoError("solver: the process already has one; leave its solver out")
        for method in self.composed if solver is not None else ():
            check_needs(method, solver)
        distinct([*self.positives, *positives, *self.aways, *aways])
        return replace(
            self,
            start=start or self.start,
            canvas=canvas or self.canvas,
            solver=solver or self.solver,
            positives=(*self.positives, *positives),
            aways=(*self.aways, *aways),
            guides=(*self.guides, *guides),
        )

    def resolved(self) -> Process:
        """With the model card's defaults in every empty slot; unchanged without a model."""
        process = self if self.source is None else self.source.complete(self)
        for method in process.composed:
            check_needs(method, process.solver)
        return process

    @property
    def times(self) -> tuple[float, ...]:
        """Every time the run will visit."""
        process = self.resolved()
        start = process.start or PriorNoise()
        return times_of(process, start, start.level(process.denoiser.schedule))

    @property
    def calls(self) -> int:
        """Network calls that a run will make; one split by `rows_max` is one."""
        return counted(self.planned())

    def planned(self) -> Run:
        """A run that is bound to be looked at: refused where the run would be, and never walked.

        Its frame, times and `counted` calls are those of the run; no denoiser or autoencoder is
        asked for anything.
        """
        with torch.no_grad():
            return bind(self.resolved(), 0, None, planned=True)

    def begin(self, seed: int = 0, noise: Noise | None = None) -> Run:
        """Bind everything of one run: sizes, times, prompts, guides."""
        return bind(self.resolved(), seed, noise)

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
        return Loop(self.begin(seed, noise), detach).steps(x)

    def sample(
        self,
        seed: int = 0,
        *,
        noise: Noise | None = None,
        progress: Callable[[Step], None] | None = None,
    ) -> Any:
        """Run it. A Result; without a model, the decoded pixels (n, C, H, W)."""
        with torch.no_grad():
            run = self.begin(seed, noise)
            x, trace = walk(run, progress)
            if self.source is None:
                return None if x is None else run.decode(x)
            return self.source.finish(x, run, trace)

    def invert(self, x0: Tensor, *, t: float = 1.0, guided: bool = False) -> list[Tensor]:
        """Deterministic path upwards from the clean state x0 (B, C, ...): states from 0 to t.

        Takes the process's steps and solver; aways are left out unless `guided`, guides always.
        """
        process = replace(self.resolved(), start=None, guides=())
        if not guided:
            process = replace(process, aways=())
        with torch.no_grad():
            times = materialise(process.spacing, process.n_steps, t, process.denoiser.schedule)
            return invert(process, x0, times[::-1])[0]

    def condition(self, text: str | None, away: bool, source: Source | None = None) -> Cond:
        """The condition of a branch: its own text, else the process's prompt or negative prompt."""
        given = self.null if away else self.cond
        if text is None and given is not None:
            return given
        if self.source is None:
            if away and self.cond is not None:
                raise SfumatoError("guidance: Process(null=...) is missing, the empty condition")
            return Cond()
        if text is None:
            text = self.negative if away else self.prompt
        reads = source or self.source
        return reads.encode([text], None if away else self.label, self.texts)

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text of a run: where lengths differ, all are brought to the longest."""
        branches = (*self.positives, *self.aways)
        own = [b.cond for b in branches if isinstance(b.cond, str)]
        return (self.prompt, *([self.negative] if self.aways else []), *own)

    def frame(self, place: Place) -> tuple[Any, tuple[int, ...]]:
        """Geometry and state shape of the run; a tensor given to the Start has the say."""
        if place.shape is not None:
            return None, place.shape
        if self.source is None:
            return self.geometry, self.shape
        return self.source.frame(self, place)


def check_needs(method: Method, chosen: str | Mapping[str, Any] | Solver | None) -> None:
    """A method whose `needs` the solver does not read would do nothing, or half of what it says."""
    needs: frozenset[str] = getattr(method, "needs", frozenset())
    if not needs or chosen is None:
        return
    made = solver(chosen)
    if missing := sorted(needs - made.needs):
        able = [name for name in SOLVERS if needs <= solver(name).needs]
        raise SfumatoError(
            f"{name_of(method)}: changes {' and '.join(missing)} apart, which solver {made.id} "
            f"does not read; take one of {', '.join(able)}"
        )


def walk(
    run: Run, progress: Callable[[Step], None] | None = None
) -> tuple[Tensor | None, list[dict[str, Any]]]:
    """Run to the end: last state and the trace, a dict of scalars for each transition.

    The state is None where a picture stays untouched.
    """
    trace: list[dict[str, Any]] = []
    x: Tensor | None = None
    for step in Loop(run).steps(None):
        if step.i >= 0:
            scores = {name: score.tolist() for name, score in step.scores.items()}
            trace.append({"t": step.t, "s": step.s, "calls": step.calls, **scores})
        if progress is not None:
            progress(step)
        x = step.x
    return x, trace


def name_of(method: Any) -> str:
    """What errors and `without` call a method: its id, or its class's name."""
    return str(
        getattr(method, "id", None) or getattr(method, "name", None) or type(method).__name__
    )
