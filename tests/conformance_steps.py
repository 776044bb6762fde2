"""Single steps of GLIDE and ADM with a constant model, row by row, and PLMS loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from conformance_case import kept_of, number, table_of, total_of
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
    through = "input"

    def __init__(self, gradient: Tensor) -> None:
        self.gradient = gradient

    def logp(self, x: Tensor, pred: Prediction, call: Call) -> Tensor:
        return (x * self.gradient).flatten(1).sum(1)


class Scores(Guide):
    """The gradient of the call that was made last."""

    name = "scores"
    through = "input"

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
        self.case = case
        self.seen: list[float] = []

    def denoiser(self) -> Denoiser:
        case, total = self.case, self.total
        kind = var_type(case)
        rescale = case.get("rescale_timesteps", False)

        def network(x: Tensor, time: Tensor, cond: Cond) -> Tensor:
            self.seen.append(float(time[0]))
            return self.output

        return Denoiser(
            network,
            table_of(case),
            KIND[case.get("mean_type", "epsilon")],  # type: ignore[arg-type]
            learned_range=kind == "learned_range",
            learned_log=kind == "learned",
            code=(lambda t: (t * total - 1) * 1000 / total) if rescale else None,
        )

    def run(self, solver: Solver, clip: bool = True, guides: tuple[Guide, ...] = ()) -> Loop:
        process = Process(
            self.denoiser(), tuple(self.x.shape[1:]), n=1, solver=solver,
            spacing=self.case["respacing"], guides=guides,
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

    def log_variance(self, solver: DDPM) -> Tensor:
        loop = self.run(solver)
        run = loop.run
        place = len(self.kept) - 1 - self.k
        t, s = run.times[place], run.times[place + 1]
        call = run.call(place, t, s)
        pred = loop.steering.begin(call)(self.x, t)
        value = solver._variance(pred, t, s, call)
        return torch.as_tensor(value).float().log().expand_as(self.x)

    def forward(self, given: Tensors, k: int, name: str) -> Tensor | None:
        """q_sample, and the mean and variance of q(x_s | x_t, x_0)."""
        table = table_of(self.case)
        steps = [(kept + 1) / self.total for kept in self.kept]
        t, s = steps[self.k], steps[self.k - 1] if self.k else 0.0
        x0 = given["x_start"][k : k + 1]
        if name == "q_sample":
            return table.alpha(t) * x0 + table.sigma(t) * self.noise
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


def relative_limits(tolerance: Mapping[str, str]) -> dict[str, float]:
    """The start of an output's name -> what the case's sentence allows of it, relative to a row."""
    found = {"ddim": 1e-3, "p_": 1e-5, "q_": 1e-5, "": 1e-5}
    for names, text in tolerance.items():
        for start in (name.strip().rstrip("*") for name in names.split(",")):
            limit = number(text, r"<= {} \* max")
            if limit is not None:
                found = {start: limit, **found}
    return found


def rows_of(case: Case, t: Tensors, prefix: str) -> tuple[Tensors, Tensors, int]:
    given = {
        k.removeprefix(f"in.{prefix}"): v for k, v in t.items() if k.startswith(f"in.{prefix}")
    }
    wanted = {
        k.removeprefix(f"out.{prefix}"): v for k, v in t.items() if k.startswith(f"out.{prefix}")
    }
    return given, wanted, len(given["t"])


def var_type(case: Case) -> str:
    """What a case says of its variances; GLIDE's say nothing and mean a learned range."""
    return str(case.get("var_type", "learned_range"))


def ancestral(case: Case) -> DDPM:
    """The reference's variance in our terms."""
    kind = var_type(case)
    known = {"fixed_small": "small", "fixed_large": "large"}
    return DDPM(variance=known.get(kind, "learned"))  # type: ignore[arg-type]


def check_steps(case: Case, t: Tensors) -> None:
    """Every kind of step that the case has an answer for."""
    checked = set()
    limits = relative_limits(case["tolerance"])
    for config in case["cases"]:
        given, wanted, n = rows_of(case, t, config["prefix"])
        for k in range(n):
            row = Row(config, given, k)
            for name in wanted:
                got = answer(name, row, given, k)
                if got is None:
                    continue
                relative = next(limits[start] for start in limits if name.startswith(start))
                agree(f"{config['prefix']}{name} row {k}", got, wanted[name][k : k + 1], relative)
                checked.add(name)
            exact = float(wanted["model_timesteps"][k])
            assert row.seen
            assert row.seen == pytest.approx([exact] * len(row.seen), rel=1e-6)
    assert any(name.startswith("p_") for name in checked)


def answer(name: str, row: Row, given: Tensors, k: int) -> Tensor | None:
    """Ours for one of the case's outputs; None for what has no meaning here."""
    solver = ancestral(row.case)
    kind, _, what = name.partition(".")
    clip = not kind.endswith("_noclip")
    kind = kind.removesuffix("_noclip")
    if row.case.get("mean_type") == "previous_x" and kind.startswith("p_"):
        clip = (
            False  # the reference's clamp of x0 does not reach a mean that is predicted; ours does
        )
    what, eta = what.rpartition(".")[2], 0.0
    if ".eta" in name:
        eta = float(name.split(".eta")[1].rpartition(".")[0])
    if kind == "ddim_sample_eta1":
        kind, eta = "ddim_sample", 1.0
    score = (Score(given["cond_grad"][k : k + 1]),) if "cond_grad" in given else ()
    if what == "mean" and kind == "p_mean_variance":
        return row.step(solver, clip, noisy=False)
    if what == "log_variance" and kind == "p_mean_variance" and row.k > 0:
        return row.log_variance(solver)
    if kind.startswith("q_"):
        return row.forward(given, k, name)
    if what != "sample":
        return None
    if kind == "p_sample":
        return row.step(solver, clip)
    if kind == "p_sample_cond":
        return row.step(solver, clip, score)
    if kind == "p_sample_inpaint":
        known, mask = given["known"][k : k + 1], given["mask"][k : k + 1]
        return row.step(solver, clip, (Overwrite(known, 1 - mask),))
    if kind == "ddim_sample":
        return row.step(DDIM(eta), clip)
    if kind == "ddim_sample_cond":
        return row.step(DDIM(), clip, score)
    if kind in ("ddim_reverse", "ddim_reverse_sample"):
        if row.case.get("mean_type") == "previous_x":
            return None  # the mean of a downward step has no meaning on the way up; ours refuses
        return row.up(clip)
    return None


def check_plms(case: Case, t: Tensors) -> None:
    for config in case["cases"]:
        prefix = config["prefix"]
        outputs, start = t[f"in.{prefix}model_outputs"], t[f"in.{prefix}x"]
        scores = t.get(f"in.{prefix}cond_grads")
        assert len(kept_of(config)) == config["num_timesteps"]
        seen: list[float] = []

        def network(
            x: Tensor, time: Tensor, cond: Cond, seen: list[float] = seen, outputs: Tensor = outputs
        ) -> Tensor:
            seen.append(float(time[0]))
            return outputs[len(seen) - 1]

        process = Process(
            Denoiser(
                network, table_of(config), "eps", learned_range=outputs.shape[2] > start.shape[1]
            ),
            tuple(start.shape[1:]), n=len(start), solver=PLMS(config["order"]),
            spacing=config["respacing"],
        )  # fmt: skip
        process = process | Threshold("static" if config.get("clip_denoised", True) else "none")
        if scores is not None:
            process = process | Scores(scores, seen)
        assert process.calls == config["model_calls"]
        steps = process.steps(noise=Tape({("prior", 0): start}))
        states = torch.stack([step.x for step in steps if step.i >= 0])
        gap = float((states - t[f"out.{prefix}samples"]).abs().max())
        assert gap <= case["tolerance_max_abs"], f"{prefix}: differs by {gap:.2e}"
        assert seen == t[f"out.{prefix}model_timesteps"].tolist()


KINDS: dict[str, Callable[[Case, Tensors], None]] = {
    "glide-sampler-steps": check_steps,
    "adm-sampler-steps": check_steps,
    "plms-steps": check_plms,
}
