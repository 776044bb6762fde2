"""Single steps of GLIDE and ADM with a constant model, row by row, and PLMS loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sfumato.core.denoiser import Cond, Denoiser, Prediction
from sfumato.core.guides import Call, Guide
from sfumato.core.noise import Tape
from sfumato.core.process import Process
from sfumato.core.pseudo import PLMS
from sfumato.core.run import Loop, Run
from sfumato.core.schedule import named
from sfumato.core.solvers import DDIM, DDPM, Solver
from sfumato.core.spacing import respaced
from sfumato.methods.inpaint import _Overwrite
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
        self.total = case.get("total_steps", 1000)
        self.kept = respaced(case["respacing"], self.total)
        self.k = int(given["t"][row])
        self.x = given["x"][row : row + 1]
        self.noise = given["noise"][row : row + 1]
        self.output = given["model_output"][row : row + 1]
        self.case = case
        self.seen: list[float] = []

    def denoiser(self) -> Denoiser:
        case, total = self.case, self.total
        kind = case.get("var_type", "learned_range")
        rescale = case.get("rescale_timesteps", False)

        def network(x: Tensor, time: Tensor, cond: Cond) -> Tensor:
            self.seen.append(float(time[0]))
            return self.output

        return Denoiser(
            network,
            named(case["schedule"], total),
            KIND[case.get("mean_type", "epsilon")],  # type: ignore[arg-type]
            learned_range=kind == "learned_range",
            learned_log=kind == "learned",
            code=(lambda t: (t * total - 1) * 1000 / total) if rescale else None,
        )

    def run(self, solver: Solver, clip: bool = True, guides: tuple[Guide, ...] = ()) -> Run:
        process = Process(
            self.denoiser(), tuple(self.x.shape[1:]), n=1, solver=solver,
            spacing=self.case["respacing"] or None,
            n_steps=None if self.case["respacing"] else self.total, guides=guides,
        )  # fmt: skip
        return (process | Threshold("static" if clip else "none")).begin(noise=Tape({}))

    def step(
        self, solver: Solver, clip: bool = True, guides: tuple[Guide, ...] = (), noisy: bool = True
    ) -> Tensor:
        """The state one kept step lower."""
        run = self.run(solver, clip, guides)
        place = len(self.kept) - 1 - self.k
        t, s = run.times[place], run.times[place + 1]
        z = self.noise if noisy else torch.zeros_like(self.noise)
        run.noise = Tape({("step", place + 1): z})
        call = run.begin(place, t, s, 0)
        made, _ = run.solver.step(self.x, t, s, Loop(run).denoiser(call), call, None)
        return made

    def up(self, clip: bool = True) -> Tensor | None:
        """The state one kept step higher; None at the top, where the reference's alpha is 0."""
        if self.k + 1 == len(self.kept):
            return None
        run = self.run(DDIM(), clip)
        place = len(self.kept) - 1 - self.k
        t, s = run.times[place], run.times[place - 1]
        call = run.begin(place, t, s, 0)
        made, _ = run.solver.step(self.x, t, s, Loop(run).denoiser(call), call, None)
        return made

    def log_variance(self, solver: DDPM) -> Tensor:
        run = self.run(solver)
        place = len(self.kept) - 1 - self.k
        t, s = run.times[place], run.times[place + 1]
        call = run.begin(place, t, s, 0)
        pred = Loop(run).denoiser(call)(self.x, t)
        value = solver._variance(pred, t, s, call)
        return torch.as_tensor(value).float().log().expand_as(self.x)


def agree(what: str, got: Tensor, want: Tensor, relative: float) -> None:
    limit = relative * max(1.0, float(want.abs().max()))
    gap = float((got - want).abs().max())
    assert gap <= limit, f"{what}: differs by {gap:.2e}, limit {limit:.1e}"


def rows_of(case: Case, t: Tensors, prefix: str) -> tuple[Tensors, Tensors, int]:
    given = {
        k.removeprefix(f"in.{prefix}"): v for k, v in t.items() if k.startswith(f"in.{prefix}")
    }
    wanted = {
        k.removeprefix(f"out.{prefix}"): v for k, v in t.items() if k.startswith(f"out.{prefix}")
    }
    return given, wanted, len(given["t"])


def ancestral(case: Case) -> DDPM:
    """The reference's variance in our terms."""
    kind = case.get("var_type", "learned_range")
    known = {"fixed_small": "small", "fixed_large": "large"}
    return DDPM(variance=known.get(kind, "learned"))  # type: ignore[arg-type]


def check_steps(case: Case, t: Tensors) -> None:
    """Every kind of step that the case has an answer for."""
    checked = set()
    for config in case["cases"]:
        given, wanted, n = rows_of(case, t, config["prefix"])
        for k in range(n):
            row = Row(config, given, k)
            for name in wanted:
                got = answer(name, row, given, k)
                if got is None:
                    continue
                relative = 1e-3 if name.startswith("ddim") else 1e-5
                agree(f"{config['prefix']}{name} row {k}", got, wanted[name][k : k + 1], relative)
                checked.add(name)
            exact = float(wanted["model_timesteps"][k])
            assert set(row.seen) == {exact} or abs(row.seen[0] - exact) < 1e-4
    assert {"p_sample.sample", "p_sample_cond.sample", "p_mean_variance.mean"} <= checked


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
    if what != "sample":
        return None
    if kind == "p_sample":
        return row.step(solver, clip)
    if kind == "p_sample_cond":
        return row.step(solver, clip, score)
    if kind == "p_sample_inpaint":
        known, mask = given["known"][k : k + 1], given["mask"][k : k + 1]
        return row.step(solver, clip, (_Overwrite(known, 1 - mask, True),))
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
        seen: list[float] = []

        def network(
            x: Tensor, time: Tensor, cond: Cond, seen: list[float] = seen, outputs: Tensor = outputs
        ) -> Tensor:
            seen.append(float(time[0]))
            return outputs[len(seen) - 1]

        process = Process(
            Denoiser(network, named(config["schedule"]), "eps", learned_range=True),
            tuple(start.shape[1:]), n=len(start), solver=PLMS(config["order"]),
            spacing=config["respacing"],
        )  # fmt: skip
        process = process | Threshold("static")
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
