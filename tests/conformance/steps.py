"""Single steps of GLIDE and ADM with a constant model, row by row, and PLMS loops."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from conformance.case import kept_of, limit_of, number, picked, respacing_of, table_of, total_of
from sfumato.core.context import Call
from sfumato.core.denoiser import Cond, Denoiser, Prediction
from sfumato.core.guides import Guide
from sfumato.core.loop import Loop
from sfumato.core.noise import Tape
from sfumato.core.process import Process
from sfumato.core.solvers import DDIM, DDPM, PLMS, Solver, variances
from sfumato.methods.inpaint import Overwrite
from sfumato.methods.threshold import Threshold

Case = Mapping[str, Any]
Tensors = Mapping[str, Tensor]
KIND = {"epsilon": "eps", "start_x": "x0", "previous_x": "previous"}


class Score(Guide):
    """A guide whose gradient is the given one."""

    name = "score"
    through = "prediction"

    def __init__(self, gradient: Tensor) -> None:
        self.gradient = gradient
        self.seen: list[float] = []

    def logp(self, x: Tensor, pred: Prediction, call: Call) -> Tensor:
        self.seen.append(call.t * call.schedule.steps - 1)
        return (x * self.gradient).flatten(1).sum(1)


class Scores(Guide):
    """The gradient of the call that was made last."""

    name = "scores"
    through = "prediction"

    def __init__(self, gradients: Tensor, seen: list[float]) -> None:
        self.gradients, self.seen = gradients, seen

    def logp(self, x: Tensor, pred: Prediction, call: Call) -> Tensor:
        return (x * self.gradients[len(self.seen) - 1]).flatten(1).sum(1)


class Row:
    """One row of a case at its own place in the respaced process."""

    def __init__(self, case: Case, given: Tensors, row: int) -> None:
        self.total = total_of(case)
        self.kept = kept_of(case)
        self.k = int(given["t"][row])
        self.x = given["x"][row : row + 1]
        self.noise = given["noise"][row : row + 1]
        self.output = given["model_output"][row : row + 1]
        self.case, self.given, self.row = case, given, row
        self.var_type = var_type(case, self.output.shape[1] > self.x.shape[1])
        self.previous = case.get("mean_type") == "previous_x"
        self.seen: list[float] = []

    def denoiser(self) -> Denoiser:
        case, total, kind = self.case, self.total, self.var_type
        rescale = case.get("rescale_timesteps", False)

        def network(x: Tensor, time: Tensor, cond: Cond) -> Tensor:
            self.seen.append(float(time[0]))
            return self.output

        return Denoiser(
            network,
            table_of(case),
            picked(KIND, case.get("mean_type", "epsilon"), "mean_type"),
            learned_range=kind == "learned_range",
            learned_log=kind == "learned",
            code=(lambda t: (t * total - 1) * 1000 / total) if rescale else None,
        )

    def run(self, solver: Solver, clip: bool = True, guides: tuple[Guide, ...] = ()) -> Loop:
        process = Process(
            self.denoiser(), tuple(self.x.shape[1:]), n=1, solver=solver,
            spacing=respacing_of(self.case), guides=guides,
        )  # fmt: skip
        return (process | Threshold("static" if clip else "none")).begin(noise=Tape({}))

    def step(
        self, solver: Solver, clip: bool = True, guides: tuple[Guide, ...] = (), noisy: bool = True
    ) -> Tensor:
        """The state one kept step lower."""
        loop = self.run(solver, clip, guides)
        run = loop.run
        place = len(self.kept) - 1 - self.k
        t, s = run.times[place], run.times[place + 1]
        z = self.noise if noisy else torch.zeros_like(self.noise)
        run.noise = Tape({("step", place + 1): z})
        call = run.call(place, t, s)
        made, _ = run.solver.step(self.x, t, s, loop.steering.begin(call), call, None)
        return made

    def up(self, clip: bool = True) -> Tensor | None:
        """The state one kept step higher; None at the top, where the reference's alpha is 0."""
        if self.k + 1 == len(self.kept):
            return None
        loop = self.run(DDIM(), clip)
        run = loop.run
        place = len(self.kept) - 1 - self.k
        t, s = run.times[place], run.times[place - 1]
        call = run.call(place, t, s)
        made, _ = run.solver.step(self.x, t, s, loop.steering.begin(call), call, None)
        return made

    def variance(self) -> Tensor:
        """What noise and scores are multiplied by, the reference's "variance"."""
        solver = ancestral(self.case, self.var_type)
        loop = self.run(solver)
        run = loop.run
        place = len(self.kept) - 1 - self.k
        t, s = run.times[place], run.times[place + 1]
        call = run.call(place, t, s)
        pred = loop.steering.begin(call)(self.x, t)
        value = solver._steering(solver._variance(pred, t, s, call), s, call)
        return torch.as_tensor(value).float().expand_as(self.x)

    def x0(self, clip: bool, guides: tuple[Guide, ...] = ()) -> Tensor:
        """The prediction after edits and the clamp, before a score: "pred_xstart"."""
        loop = self.run(DDIM(), clip, guides)
        run = loop.run
        place = len(self.kept) - 1 - self.k
        t, s = run.times[place], run.times[place + 1]
        return loop.steering.begin(run.call(place, t, s))(self.x, t).x0

    def forward(self, given: Tensors, k: int, name: str) -> Tensor | None:
        """q_sample, and the mean and variance of q(x_s | x_t, x_0)."""
        table = table_of(self.case)
        steps = [(kept + 1) / self.total for kept in self.kept]
        t, s = steps[self.k], steps[self.k - 1] if self.k else 0.0
        x0 = given["x_start"][k : k + 1]
        if name == "q_sample":
            return table.alpha(t) * x0 + table.sigma(t) * self.noise
        known = re.fullmatch(r"q_posterior(_mean_variance)?\.(mean|variance|log_variance)", name)
        assert known, f"{name}: not known to this check"
        large, small = variances(table, t, s)
        if name.endswith(".mean"):
            keep = table.alpha(t) / table.alpha(s) * (table.sigma(s) / table.sigma(t)) ** 2
            return keep * self.x + table.alpha(s) * large / table.sigma(t) ** 2 * x0
        value = torch.full_like(x0, small)
        return value if name.endswith(".variance") else None if self.k == 0 else value.log()


def agree(what: str, got: Tensor, want: Tensor, relative: float) -> None:
    limit = relative * max(1.0, float(want.abs().max()))
    gap = float((got - want).abs().max())
    assert gap <= limit, f"{what}: differs by {gap:.2e}, limit {limit:.1e}"


def relative_limits(tolerance: Any) -> dict[str, float]:
    """The start of an output's name -> what the case's sentence allows of it, relative to a row."""
    found = {"ddim": 1e-3, "": 1e-5}
    for names, text in tolerance.items() if isinstance(tolerance, Mapping) else ():
        for start in (name.strip().rstrip("*") for name in names.split(",")):
            limit = number(str(text), r"<= {} \* max")
            if limit is not None:
                found[start] = limit
    return found


def rows_of(case: Case, t: Tensors, prefix: str) -> tuple[Tensors, Tensors, int]:
    given = {
        k.removeprefix(f"in.{prefix}"): v for k, v in t.items() if k.startswith(f"in.{prefix}")
    }
    wanted = {
        k.removeprefix(f"out.{prefix}"): v for k, v in t.items() if k.startswith(f"out.{prefix}")
    }
    return given, wanted, len(given["t"])


def var_type(case: Case, wide: bool) -> str:
    """What a case says of its variances; those that say nothing tell by the network's channels."""
    return str(case.get("var_type") or ("learned_range" if wide else "fixed_large"))


VARIANCES = {
    "fixed_small": "small", "fixed_large": "large", "learned": "learned",
    "learned_range": "learned",
}  # fmt: skip


def ancestral(case: Case, kind: str | None = None) -> DDPM:
    """The reference's variance in our terms."""
    return DDPM(variance=picked(VARIANCES, kind or case["var_type"], "var_type"))


def check_steps(case: Case, t: Tensors) -> None:
    """Every kind of step that the case has an answer for."""
    checked = set()
    limits = relative_limits(case.get("tolerance"))
    for config in case["cases"]:
        given, wanted, n = rows_of(case, t, config["prefix"])
        for k in range(n):
            row = Row(config, given, k)
            for name in wanted:
                if name.endswith("_timesteps"):
                    continue
                got = answer(name, row, case["kind"].startswith("glide"))
                if got is None:
                    continue
                start = max((start for start in limits if name.startswith(start)), key=len)
                want = wanted[name][k : k + 1]
                agree(f"{config['prefix']}{name} row {k}", got, want, limits[start])
                checked.add(name)
            agree_on_times(row, wanted)
    assert any(name.startswith("p_") for name in checked)


def agree_on_times(row: Row, wanted: Tensors) -> None:
    """What network and guide read of the time."""
    if "model_timesteps" in wanted:
        exact = float(wanted["model_timesteps"][row.row])
        assert row.seen
        assert row.seen == pytest.approx([exact] * len(row.seen), rel=1e-6)
    if "cond_timesteps" in wanted:
        score = Score(torch.zeros_like(row.x))
        row.step(ancestral(row.case, row.var_type), guides=(score,))
        scale = 1000 / row.total if row.case.get("rescale_timesteps") else 1.0
        exact = float(wanted["cond_timesteps"][row.row])
        assert [index * scale for index in score.seen] == pytest.approx([exact], rel=1e-6, abs=1e-6)


def answer(name: str, row: Row, glide: bool) -> Tensor | None:
    """Ours for one of the case's outputs; None for what has no meaning here."""
    if name.startswith("q_"):
        return row.forward(row.given, row.row, name)
    found = re.fullmatch(
        r"([a-z_]+?)(_noclip)?(?:[._]eta([\d.]+\d|\d))?\.(sample|pred_xstart|mean|variance|log_variance)",
        name,
    )
    assert found, f"{name}: not known to this check"
    kind, noclip, eta, what = found.groups()
    clip = row.case.get("clip_denoised", True) and not noclip
    one = slice(row.row, row.row + 1)
    guides: tuple[Guide, ...] = ()
    if kind.endswith("_inpaint"):
        guides = (Overwrite(row.given["known"][one], 1 - row.given["mask"][one]),)
    score = (Score(row.given["cond_grad"][one]),) if kind.endswith("_cond") else ()
    if what == "pred_xstart":  # GLIDE's DDIM tells it with the score, its source without
        return row.x0(clip, score if glide and kind == "ddim_sample_cond" else guides)
    guides = score or guides
    solver = ancestral(row.case, row.var_type)
    way, _, _ = kind.partition("_")
    if way == "p" and row.previous:  # what is done to x0 does not reach a predicted mean there
        clip, guides = False, score
    if (kind, what) == ("p_mean_variance", "mean"):
        return row.step(solver, clip, noisy=False)
    if (kind, what) == ("p_mean_variance", "variance"):
        return row.variance()
    if (kind, what) == ("p_mean_variance", "log_variance"):
        # of the last transition of "small", which adds no noise, the reference has another's
        return None if row.k == 0 and row.var_type == "fixed_small" else row.variance().log()
    assert what == "sample", f"{name}: not known to this check"
    if kind in ("p_sample", "p_sample_cond", "p_sample_inpaint"):
        return row.step(solver, clip, guides)
    if kind in ("ddim_sample", "ddim_sample_cond", "ddim_sample_inpaint"):
        return row.step(DDIM(float(eta or 0)), clip, guides)
    assert kind in ("ddim_reverse", "ddim_reverse_sample"), f"{name}: not known to this check"
    # the mean of a downward step has no meaning on the way up; ours refuses
    return None if row.previous else row.up(clip)


def check_plms(case: Case, t: Tensors) -> None:
    for config in case["cases"]:
        prefix = config["prefix"]
        outputs, start = t[f"in.{prefix}model_outputs"], t[f"in.{prefix}x"]
        scores = t.get(f"in.{prefix}cond_grads")
        assert kept_of(config)
        seen: list[float] = []

        def network(
            x: Tensor, time: Tensor, cond: Cond, seen: list[float] = seen, outputs: Tensor = outputs
        ) -> Tensor:
            seen.append(float(time[0]))
            return outputs[len(seen) - 1]

        kind = picked(KIND, config.get("mean_type", "epsilon"), "mean_type")
        learned = outputs.shape[2] > start.shape[1]
        denoiser = Denoiser(network, table_of(config), kind, learned_range=learned)
        process = Process(
            denoiser, tuple(start.shape[1:]), n=len(start), spacing=respacing_of(config),
            solver=PLMS(config["order"], faintest=0),
        )  # fmt: skip
        process = process | Threshold("static" if config.get("clip_denoised", True) else "none")
        if scores is not None:
            process = process | Scores(scores, seen)
        assert process.calls == config.get("model_calls", len(outputs))
        steps = list(process.steps(noise=Tape({("prior", 0): start})))
        states = torch.stack([step.x for step in steps if step.i >= 0])
        limit = limit_of(case["tolerance_max_abs"], f"out.{prefix}samples", "samples")
        gap = float((states - t[f"out.{prefix}samples"]).abs().max())
        assert gap <= limit, f"{prefix}: differs by {gap:.2e}"
        if (told := t.get(f"out.{prefix}model_timesteps")) is not None:
            assert seen == told.tolist()


KINDS: dict[str, Callable[[Case, Tensors], None]] = {
    "glide-sampler-steps": check_steps,
    "adm-sampler-steps": check_steps,
    "plms-steps": check_plms,
}
