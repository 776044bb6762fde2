"""Taps in a run: which rows they have, when and where they act, what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.core.context import Call, Run
from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.mixture import Branch
from sfumato.core.process import Process
from sfumato.core.schedule import linear
from sfumato.core.taps import Site, Tap, Taps
from sfumato.methods.cfg import CFG

MIDDLE, CROSS = Site("middle", 0, "middle"), Site("cross", 0, "attention")


class Network:
    """A map, then attention of its pixels to the condition's one vector, then eps."""

    sites = (MIDDLE, CROSS)

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(
        self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], taps: Taps | None = None, /
    ) -> Tensor:
        self.rows.append(len(x))
        h = torch.tanh(x)
        h = h if taps is None else taps.feature(h, MIDDLE)
        q = h.flatten(2).mT[:, None]
        k = cond["c"][:, None, :, None].expand(-1, -1, -1, 3)
        if taps is None:
            o = fused(q, k, k)
        else:
            o = taps.attend(q, k, k, CROSS.here(x.shape, k.shape[2]), fused)
        return 0.8 * x + 0.1 * o[:, 0].mT.reshape(x.shape)


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


def process(network: Any = None, **values: Any) -> Process:
    given: dict[str, Any] = {
        "cond": Cond({"c": torch.tensor([[1.0, 2.0]])}),
        "null": Cond({"c": torch.tensor([[0.0, 0.5]])}),
        "n_steps": 4,
        "solver": "ddim",
    }
    return Process(Denoiser(network or Network(), linear()), (3, 4, 4), **{**given, **values})


class Noted(Tap):
    """Notes (hook, branch, rows, pictures)."""

    name = "noted"

    def __init__(self, **values: Any) -> None:
        self.seen: list[tuple[str, str, int, slice]] = []
        for name, value in values.items():
            setattr(self, name, value)

    def feature(self, h: Tensor, site: Site, call: Call) -> Tensor:
        self.seen.append(("feature", call.branch, len(h), call.pictures))
        return h

    def enter(self, x: Tensor, time: Tensor, cond: Cond, call: Call) -> Tap:
        assert len(x) == len(time) == len(cond["c"])
        self.seen.append(("enter", call.branch, len(x), call.pictures))
        return self


def test_a_hook_is_called_once_a_branch_on_its_own_rows() -> None:
    tap, network = Noted(), Network()
    made = process(network, n=3) | CFG(2) | tap
    made.sample()
    once = [(hook, branch, 3) for hook in ("enter", "feature") for branch in ("positive", "away")]
    assert [entry[:3] for entry in tap.seen] == once * 4
    assert network.rows == [6] * 4


@pytest.mark.parametrize("on", [("positive",), ("positives",), ("aways",)])
def test_a_tap_is_on_the_branches_that_it_names(on: tuple[str, ...]) -> None:
    tap = Noted(on=on)
    (process(n=2) | CFG(2) | tap).sample()
    branches = {branch for _, branch, *_ in tap.seen}
    assert len(branches) == 1
    assert ("positive" in branches) == (on != ("aways",))


def test_a_split_call_has_the_pictures_of_each_piece() -> None:
    tap, network = Noted(on=("positive",)), Network()
    (process(network, n=4, rows_max=3) | CFG(2) | tap).sample()
    assert network.rows[:3] == [3, 3, 2]
    own = [(rows, pictures) for hook, _, rows, pictures in tap.seen[:4] if hook == "feature"]
    assert own == [(3, slice(0, 3)), (1, slice(3, 4))]


def test_a_call_of_coupled_rows_is_not_split() -> None:
    tap, network = Noted(couples=True), Network()
    (process(network, n=4, rows_max=3) | CFG(2) | tap).sample()
    assert set(network.rows) == {8}


class Add(Tap):
    name = "add"

    def __init__(self, by: float, window: tuple[float, float] = (0, 1), name: str = "add") -> None:
        self.by, self.window, self.name = by, window, name

    def active(self, call: Call) -> bool:
        return self.window[0] <= call.t <= self.window[1]

    def feature(self, h: Tensor, site: Site, call: Call) -> Tensor:
        return h * 1.1 + self.by


def test_pieces_and_batches_change_no_bit() -> None:
    whole = (process(n=4) | CFG(2) | Add(0.3)).sample()
    split = (process(n=4, rows_max=3) | CFG(2) | Add(0.3)).sample()
    assert torch.equal(whole, split)
    for j in range(4):
        assert torch.equal((process() | CFG(2) | Add(0.3)).sample(seed=j), whole[j : j + 1])


def test_order_of_composing_changes_no_bit() -> None:
    taps = [Add(0.3, name="a"), Add(-0.2, name="b"), CFG(2)]
    pictures = []
    for order in itertools.permutations(taps):
        made = process()
        for method in order:
            made = made | method
        pictures.append(made.sample())
    assert all(torch.equal(picture, pictures[0]) for picture in pictures)
    assert not torch.equal(pictures[0], (process() | CFG(2)).sample())


def test_nothing_differs_where_no_tap_acts() -> None:
    class Bare(Network):
        def __call__(self, x: Tensor, time: Tensor, cond: Any, taps: Any = None, /) -> Tensor:
            assert taps is None
            return super().__call__(x, time, cond)

    bare = (process() | CFG(2)).sample()
    assert torch.equal((process(Bare()) | CFG(2) | Add(0.3, (2, 3))).sample(), bare)
    windowed = (process() | CFG(2) | Add(0.3, (0.9, 1))).sample()
    assert not torch.equal(windowed, bare)


class Masked(Tap):
    name = "masked"

    def scores(self, s: Tensor, site: Site, call: Call) -> Tensor:
        assert s.dtype == torch.float32
        return s + torch.tensor([0.0, -torch.inf])


def test_scores_come_before_probabilities() -> None:
    class Both(Masked):
        def probs(self, p: Tensor, site: Site, call: Call) -> Tensor:
            assert torch.equal(p[..., 1], torch.zeros_like(p[..., 1]))
            return p

    (process() | Both()).sample()


def test_attention_is_fused_unless_its_maps_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    plain = fused
    monkeypatch.setitem(globals(), "fused", lambda *parts: calls.append(1) or plain(*parts))

    class After(Tap):
        def attended(self, o: Tensor, q: Tensor, site: Site, call: Call) -> Tensor:
            assert o.shape == q.shape
            return o

    (process() | After()).sample()
    assert len(calls) == 4
    (process() | After() | Masked()).sample()
    assert len(calls) == 4


class Worded(Tap):
    """Its conditions: another one when bound, and another one at every step."""

    name = "worded"
    on = ("positive",)

    def __init__(self, hook: str) -> None:
        self.hook = hook

    def condition(self, cond: Cond, branch: Branch, run: Run) -> Cond:
        return cond.map(lambda v: v + 1) if self.hook == "condition" else cond

    def prepared(self, cond: Cond, call: Call) -> Cond:
        return cond.map(lambda v: v + 1) if self.hook == "prepared" else cond


@pytest.mark.parametrize("hook", ["condition", "prepared"])
def test_conditions_are_changed_for_a_branch(hook: str) -> None:
    made = process() | CFG(2)
    wanted = replace(made, cond=Cond({"c": torch.tensor([[2.0, 3.0]])})).sample()
    assert torch.equal((made | Worded(hook)).sample(), wanted)


def test_a_condition_of_the_step_is_changed_too() -> None:
    branch = Branch("positive", cond=lambda call: Cond({"c": torch.tensor([[call.t, 1.0]])}))
    other = Branch("positive", cond=lambda call: Cond({"c": torch.tensor([[call.t + 1, 2.0]])}))
    wanted = process().add(positives=(other,)).sample()
    made = process().add(positives=(branch,)) | Worded("condition")
    assert torch.equal(made.sample(), wanted)


def test_null_text_of_each_step() -> None:
    """Another null condition at every step, beside the guidance that has it."""

    class NullText(Tap):
        on = ("aways",)

        def prepared(self, cond: Cond, call: Call) -> Cond:
            return Cond({"c": torch.full_like(cond["c"], float(call.i))})

    seen = []

    class Watching(Network):
        def __call__(self, x: Tensor, time: Tensor, cond: Any, taps: Any = None, /) -> Tensor:
            seen.append(cond["c"][1].tolist())
            return super().__call__(x, time, cond, taps)

    (process(Watching()) | CFG(2) | NullText()).sample()
    assert seen == [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]


def test_a_second_network_enters_once_a_call() -> None:
    """What it says is added where its tap of this call acts."""

    class Second(Tap):
        name = "second"

        def enter(self, x: Tensor, time: Tensor, cond: Cond, call: Call) -> Tap:
            return Added(torch.sin(x))

    class Added(Tap):
        name = "second"

        def __init__(self, more: Tensor) -> None:
            self.more = more

        def at(self, site: Site) -> bool:
            return site.kind == "middle"

        def feature(self, h: Tensor, site: Site, call: Call) -> Tensor:
            return h + self.more

    class Adding(Network):
        def __call__(self, x: Tensor, time: Tensor, cond: Any, taps: Any = None, /) -> Tensor:
            h = torch.tanh(x) + torch.sin(x)
            q = h.flatten(2).mT[:, None]
            k = cond["c"][:, None, :, None].expand(-1, -1, -1, 3)
            return 0.8 * x + 0.1 * fused(q, k, k)[:, 0].mT.reshape(x.shape)

    wanted = (process(Adding(), n=2) | CFG(2)).sample()
    assert torch.equal((process(n=2) | CFG(2) | Second()).sample(), wanted)


class Boundary(Tap):
    """A network that was trained on twice the state, and says twice as much."""

    name = "boundary"

    def reads(self, x: Tensor, call: Call) -> Tensor:
        return x * 2

    def says(self, out: Tensor, call: Call) -> Tensor:
        return out / 2


@pytest.mark.parametrize("kind", ["eps", "v", "x0", "edm"])
def test_taps_at_the_boundary_act_on_any_network(kind: Any) -> None:
    def network(x: Tensor, time: Tensor, cond: Any) -> Tensor:
        return torch.sin(x)

    def doubled(x: Tensor, time: Tensor, cond: Any) -> Tensor:
        return torch.sin(x * 2) / 2

    denoiser = Denoiser(network, linear(), kind)
    made = Process(denoiser, (3, 4, 4), n_steps=3, solver="ddim")
    wanted = replace(made, denoiser=replace(denoiser, network=doubled)).sample()
    assert torch.equal((made | Boundary()).sample(), wanted)


def test_networks_that_let_nothing_in_refuse_by_name() -> None:
    def closed(x: Tensor, time: Tensor, cond: Any) -> Tensor:
        return x

    with pytest.raises(SfumatoError, match="add: the network closed lets nothing act inside it"):
        (process(closed) | Add(0.1)).sample()
    with pytest.raises(SfumatoError, match="network closed"):
        (process(closed) | Add(0.1)).plan()


def test_places_and_branches_that_are_not_there_are_refused() -> None:
    class Skips(Add):
        def at(self, site: Site) -> bool:
            return site.kind == "skip"

    with pytest.raises(SfumatoError, match=r"none of the places .* has middle, cross"):
        (process() | Skips(0.1)).sample()
    with pytest.raises(SfumatoError, match="noted: no branch 'art'; there are positive"):
        (process() | Noted(on=("art",))).sample()


def test_a_caller_may_differentiate_by_a_tap() -> None:
    class Learned(Add):
        def __init__(self) -> None:
            super().__init__(0.0)
            self.shift = torch.zeros(3, 1, 1, requires_grad=True)

        def parameters(self) -> tuple[Tensor, ...]:
            return (self.shift,)

        def feature(self, h: Tensor, site: Site, call: Call) -> Tensor:
            return h + self.shift

    tap = Learned()
    *_, last = (process() | tap).steps()
    (gradient,) = torch.autograd.grad(last.x.sum(), tap.shift)
    assert float(gradient.abs().sum()) > 0
