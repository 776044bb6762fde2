"""A run's plan: what it will call, where it will be, what it will take; nothing is run.

As data, and in plain sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sfumato import images
from sfumato.core.composition import brief
from sfumato.core.process import Process
from sfumato.core.solvers import solver, solver_data
from sfumato.methods import Method, main_field, to_data
from sfumato.models import cost, memory, peaks
from sfumato.models.cascade import Cascade, base_of


def plan_data(process: Process | Cascade, seed: int) -> dict[str, Any]:
    """Calls, times, sizes, seconds, memory, methods, and the recipe that would run."""
    base = base_of(process)
    resolved = base.resolved()
    frame, shape = resolved.frame(resolved.place)
    assert resolved.solver is not None
    source: Any = base.source
    edit = edit_mask_of(resolved)
    needed = list(memory.needs(resolved, frame, shape, process.times, 0))
    return {
        "prompt": resolved.prompt,
        "calls": process.calls,
        "times": list(process.times),
        "solver": solver_data(solver(resolved.solver)),
        "work_size": list(frame.work) if frame else list(shape[:0:-1]),
        "size": list(frame.target) if frame else None,
        "edited": None if edit is None else images.edit_share(edit),
        "seconds": cost.seconds(process, source.choice),
        "work": cost.work(resolved),
        "weights": cost.weight_bytes(source),
        "memory": max((need.size for need in needed), default=0),
        "peaks": {how: asdict(peak) for how, peak in peaks.peaks(resolved, needed).items()},
        "methods": [to_data(method) for method in resolved.methods],
        "recipe": source.asked(base, seed).to_data(),
    }


def edit_mask_of(process: Process) -> Any:
    """The edit mask of the picture that is begun from or kept, None where there is none."""
    for part in (process.start, process.canvas):
        if (edit := getattr(part, "edit_mask", None)) is not None:
            return edit
    return None


def sentences(process: Process | Cascade, seed: int, plan: Mapping[str, Any]) -> list[str]:
    """A plan as one would say it."""
    resolved = base_of(process).resolved()
    source: Any = resolved.source
    choice, n = source.choice, resolved.n
    what = f"Pictures of “{resolved.prompt}”" if n > 1 else f"A picture of “{resolved.prompt}”"
    if not resolved.prompt:
        what = "Pictures without a prompt" if n > 1 else "A picture without a prompt"
    seeds = f"seed {seed}" if n == 1 else f"seeds {seed} to {seed + n - 1}"
    lines = [f"{what} by model {source.name}, {seeds}."]
    if resolved.negative:
        lines.append(f"Away from “{resolved.negative}”.")
    if resolved.methods:
        lines.append(f"Methods: {'; '.join(told(method) for method in resolved.methods)}.")
    lines += [walked(plan), *left_out(resolved, plan), *grown(plan, source.card)]
    if plan["edited"] == 1:
        lines.append("All of the picture's pixels may change.")
    elif plan["edited"] is not None:
        lines.append(
            f"{plan['edited']:.1%} of the picture's pixels may change; the others are kept bit for "
            "bit."
        )
    if plan["size"] is not None:
        width, height = plan["size"]
        lines.append(f"{n} picture{'s' if n > 1 else ''} of {width}x{height} pixels will be saved.")
    if plan["seconds"]:
        gib, held = plan["peaks"][choice.offload]["device"] / memory.GIB, ""
        if gib >= 1:
            held = f" and at least {gib:.2g} GiB of memory, its weights with it,"
        lines.append(f"That takes about {lasting(plan['seconds'])}{held} on {choice.device}"
                     f" in {choice.dtype}, loading apart.")  # fmt: skip
    lines += peaks.sentences(plan["peaks"], choice.device, choice.offload)
    return lines


def told(method: Any) -> str:
    """A method with what was given to it, and its main number or word."""
    main = [main_field(type(method))] if isinstance(method, Method) else []
    return brief(method, [name for name in main if not isinstance(getattr(method, name), tuple)])


def walked(plan: Mapping[str, Any]) -> str:
    """The base's steps, times and calls."""
    times, calls = plan["times"], plan["calls"]
    first = calls if isinstance(calls, int) else calls[0]
    if len(times) < 2:
        return "The base takes no steps: it begins at t = 0, where the picture is as it was given."
    width, height = plan["work_size"]
    chosen = plan["solver"] if isinstance(plan["solver"], str) else plan["solver"]["solver"]
    return (
        f"{len(times) - 1} steps of {chosen} from t = {times[0]:.3g} to "
        f"{times[-1]:.3g} at {width}x{height}: {first} network calls."
    )


def left_out(process: Process, plan: Mapping[str, Any]) -> list[str]:
    """What steps take from earlier ones, and what of the base's work that leaves."""
    reuse = process.reuse
    if not reuse.acts:
        return []
    kept = [f"{what} at every {nth(every)}" for what, every in (("guidance", reuse.guidance),
            ("deep maps", reuse.deep)) if every > 1]  # fmt: skip
    share = "" if plan["work"] is None else f": {plan['work']:.0%} of their operations"
    return [f"Of these steps {' and '.join(kept)} alone{share}; the picture is not the exact one."]


def nth(every: int) -> str:
    """An ordinal."""
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{every}{'th' if every // 10 % 10 == 1 else ends.get(every % 10, 'th')}"


def grown(plan: Mapping[str, Any], card: Any) -> list[str]:
    """What each upsampler does."""
    if isinstance(plan["calls"], int):
        return []
    width, height = plan["work_size"]
    lines = []
    for k, count in enumerate(plan["calls"][1:], 1):
        factor = card.factor(k + 1)
        size = f"{width * factor}x{height * factor}"
        lines.append(f"Then upsampler {k} to {size}: {count} calls." if count else
                     f"Upsampler {k} is not needed.")  # fmt: skip
    return lines


def lasting(seconds: float) -> str:
    """A time in words; more than two figures would promise too much."""
    if seconds < 1:
        return "a second"
    if seconds < 90:
        return f"{seconds:.2g} seconds" if seconds < 10 else f"{round(seconds, -1):.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
