"""What methods may ask of a run beside guides and taps: roles, noise, prompts, paths, restarts."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from sfumato.core.context import RESTARTS, Call, Run
from sfumato.core.denoiser import Cond, Denoiser, Prediction
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.mixture import Branch
from sfumato.core.noise import Seeded, Shared, Tape
from sfumato.core.process import Process
from sfumato.core.schedule import linear
from sfumato.core.solvers import DDIM, solver, solver_data
from sfumato.core.spaces import Affine
from sfumato.core.taps import Tap
from sfumato.methods.cfg import CFG
from sfumato.methods.threshold import Threshold

TABLE = linear()


def network(x: Tensor, time: Tensor, cond: Any) -> Tensor:
    shift = cond["c"].reshape(-1, 1, 1, 1) if "c" in cond else 0.0
    return 0.9 * x + 0.1 * torch.tanh(x + shift)


def process(**values: Any) -> Process:
    return Process(
        Denoiser(network, TABLE), (3, 4, 4), **{"n_steps": 6, "solver": "ddim", **values}
    )


def shifted(by: float) -> Cond:
    return Cond({"c": torch.tensor([[by]])})


def test_a_role_may_depend_on_the_time() -> None:
    """Above 0.5 one branch says x0 and the other eps; below, the first says both."""

    def role(t: float) -> Literal["both", "x0", "eps"]:
        return "x0" if t > 0.5 else "both"

    def above(t: float) -> float:
        return 1.0 if t > 0.5 else 0.0

    split = process().add(
        positives=(
            Branch("edited", shifted(1), role=role),
            Branch("direction", shifted(2), above, role="eps"),
        )
    )
    ties = []

    class Watch(Guide):
        def edit(self, pred: Prediction, x: Tensor, call: Call) -> Prediction:
            ties.append((call.t > 0.5, call.tied))
            return pred

    loop = (split | Watch()).begin()
    *_, last = loop.steps()
    assert {tied for high, tied in ties if high} == {False}
    assert {tied for high, tied in ties if not high} == {True}
    x = next(iter(process().steps(seed=0))).x
    denoiser = process().denoiser
    for t, s in zip(loop.run.times, loop.run.times[1:], strict=False):
        first, other = (denoiser(x, t, shifted(by)) for by in (1, 2))
        eps = other.eps if t > 0.5 else first.eps
        x = torch.add(TABLE.alpha(s) * first.x0, eps, alpha=TABLE.sigma(s))
    assert torch.equal(last.x, x)


def test_threshold_of_equal_branches_split_by_role_is_that_of_one() -> None:
    """x0 that eps stands for is changed alike, else the clamp would take them apart."""
    whole = process() | Threshold()
    halves = process().add(
        positives=(Branch("a", Cond(), role="x0"), Branch("b", Cond(), role="eps"))
    )
    split = halves | Threshold()
    assert torch.allclose(split.sample(), whole.sample(), atol=1e-5)
    assert not torch.allclose(whole.sample(), process().sample(), atol=1e-3)


def test_eta_counts_below_a_level_alone() -> None:
    visits = []

    class Counted(Seeded):
        def draw(self, purpose: str, visit: int, evaluation: int, like: Tensor) -> Tensor:
            visits.append((purpose, visit))
            return super().draw(purpose, visit, evaluation, like)

    chosen = solver({"solver": "ddim", "eta": 1.0, "below": 0.5})
    made = process(solver=chosen)
    made.sample(noise=Counted(0))
    drawn = [visit for purpose, visit in visits if purpose == "step"]
    lower = [i + 1 for i, (t, s) in enumerate(zip(made.times, made.times[1:], strict=False))
             if t <= 0.5 and s > 0]  # fmt: skip
    assert drawn == lower
    assert solver(solver_data(chosen)) == chosen
    assert not DDIM(eta=1.0, below=0.0).stochastic
    assert torch.equal(process(solver=DDIM(eta=1.0)).sample(), process(solver="euler-a").sample())


def test_shared_noise_is_the_first_pictures() -> None:
    made = process(n=3, solver={"solver": "ddim", "eta": 1.0})
    alone = replace(made, n=1).sample(seed=4)
    shared = replace(made, shared=True).sample(seed=4)
    assert torch.equal(shared, alone.expand_as(shared))
    assert torch.equal(made.sample(noise=Shared(Seeded(4))), shared)
    assert not torch.equal(made.sample(seed=4)[1], alone[0])


def test_a_guide_or_tap_may_change_the_times() -> None:
    @dataclass
    class Repeat(Guide):
        """The first transition again and again (arXiv 2209.15264)."""

        times: int = 3

        def path(self, times: tuple[float, ...]) -> tuple[float, ...]:
            return (*times[:2] * (self.times - 1), *times)

    class Shortened(Tap):
        def path(self, times: tuple[float, ...]) -> tuple[float, ...]:
            return times[:-2] + times[-1:]

    plain = process().times
    assert (process() | Repeat()).times == (*plain[:2], *plain[:2], *plain)
    assert (process() | Shortened()).times == plain[:-2] + plain[-1:]
    assert (process() | Repeat()).calls == 8
    (process() | Repeat()).sample()


class Picky(Guide):
    """Gives a run up while its last loss is above a bound."""

    name = "picky"

    def __init__(self, bound: float) -> None:
        self.bound = bound
        self.losses: list[float] = []

    def arrive(self, x: Tensor, t: float, call: Call) -> Tensor:
        call.memo["steps"] = call.memo.get("steps", 0) + 1
        if call.i == 2:
            assert call.memo["steps"] == 4  # scratch space of this attempt
            loss = float(x[0, 0, 0, 0])
            self.losses.append(loss)
            if loss > self.bound:
                call.restart(loss)
        return x


def test_a_run_is_begun_again_from_fresh_noise() -> None:
    losses = Picky(-torch.inf)
    (process() | losses).sample(seed=1)
    bound = sorted(losses.losses)[RESTARTS // 2]
    again = Picky(bound)
    made = process() | again
    x = made.sample(seed=1)
    assert len(again.losses) > 1
    assert again.losses[-1] <= bound < min(again.losses[:-1])
    assert torch.equal(made.sample(seed=1), x)
    loop = made.begin(1)
    steps = list(loop.steps())
    assert [step.i for step in steps].count(-1) == len(loop.run.report["restarts"]) + 1
    assert loop.calls > 6


def test_restarts_are_capped_and_the_best_attempt_is_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    never = Picky(-torch.inf)
    with caplog.at_level(logging.WARNING, "sfumato"):
        (process() | never).sample(seed=1)
    assert len(never.losses) == RESTARTS + 1
    assert never.losses[-1] == min(never.losses[:-1])
    assert "the best attempt is kept" in caplog.text


def test_noise_that_has_no_other_is_not_begun_again() -> None:
    like = torch.zeros(1, 3, 4, 4)
    tape = Tape({("prior", 0): torch.ones_like(like)})
    never = Picky(-torch.inf)
    (process() | never).sample(noise=tape)
    assert len(never.losses) == 1


@dataclass(frozen=True)
class Whitened(Affine):
    """By the process's condition: what PriorGrad's space is (arXiv 2106.06406)."""

    def bind_space(self, run: Run) -> Affine:
        assert run.times
        cond = run.process.cond
        assert cond is not None
        return Affine(cond["c"].reshape(-1, 1, 1, 1), 2.0)


def test_a_space_may_be_a_runs_own() -> None:
    made = process(space=Whitened(), cond=shifted(3))
    plain = process(cond=shifted(3))
    assert torch.equal(made.sample(), plain.sample() * 2.0 + 3.0)
    made.plan()


class Speaking:
    """Of a Source what `condition` asks."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], tuple[str, ...]]] = []

    def encode(self, texts: Any, label: Any = None, beside: Any = (), away: Any = False) -> Cond:
        self.asked.append((tuple(texts), tuple(beside)))
        return Cond({"c": torch.tensor([[float(len(text))] for text in texts])})


def test_each_picture_may_have_a_prompt() -> None:
    source: Any = Speaking()
    made = process(source=source, prompt="a", prompts=("bb", "ccc"), n=2) | CFG(2)
    cond = made.condition(None, away=False)
    assert cond["c"].flatten().tolist() == [2.0, 3.0]
    assert made.condition(None, away=True)["c"].flatten().tolist() == [0.0]
    assert source.asked[0] == (("bb", "ccc"), ("a", "bb", "ccc", ""))
    with pytest.raises(SfumatoError, match="prompts: 2 for n = 3"):
        process(prompts=("a", "b"), n=3)


def test_texts_of_taps_are_brought_to_one_length_too() -> None:
    class Speaks(Tap):
        texts = ("dddd",)

    source: Any = Speaking()
    made = process(source=source, prompt="a") | Speaks()
    made.condition(None, away=False)
    assert source.asked == [(("a",), ("a", "dddd"))]
