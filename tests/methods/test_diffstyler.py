"""DiffStyler: inversion and its round trip, two denoisers side by side, what a run reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image as PILImage
from PIL import ImageDraw
from torch import Tensor

import sfumato as sf
from helpers.adapters import of_a_style
from helpers.program import call, fails
from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.inversion import Inversion, distance
from sfumato.core.process import Process
from sfumato.core.schedule import Cosine, Table, ratio, squared_cosine
from sfumato.core.source import Origin
from sfumato.core.spacing import materialise
from sfumato.images import read_metadata
from sfumato.methods.diffstyler import DiffStyler
from sfumato.recipe import Recipe

COSINE = Cosine()


def gauss(spread: float, schedule: Any = COSINE) -> Denoiser:
    """The exact denoiser of N(0, spread^2): v of x, whatever else is given."""

    def network(x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor:
        t = float(time[0])
        a, s = schedule.alpha(t), schedule.sigma(t)
        return a * s * (1 - spread**2) / (a * a * spread**2 + s * s) * x

    return Denoiser(network, schedule, "v", code=float, t_min=0.0)


def toy(seed: int, schedule: Any = COSINE) -> Denoiser:
    """A smooth nonlinear network; its condition, where it has one, is a number added inside."""
    generator = torch.Generator().manual_seed(seed)
    weight = 0.4 * torch.randn(3, 3, generator=generator)

    def network(x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor:
        given = cond["c"][:, :, None, None] if "c" in cond else 0.0
        mixed = torch.einsum("oc,nchw->nohw", weight, x)
        return 0.5 * torch.tanh(mixed + time[:, None, None, None] + given)

    return Denoiser(network, schedule, "v", code=float, t_min=0.0)


def pixels(n: int = 1) -> Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 0.5


def process(denoiser: Denoiser, **given: Any) -> Process:
    values: dict[str, Any] = {"n_steps": 10, "solver": {"solver": "iplms", "start": "euler"}}
    return Process(denoiser, (3, 8, 8), **{**values, **given})


ITSELF: dict[str, Any] = {"t_start": 0.9, "art": "none"}


@pytest.mark.parametrize(("steps", "wanted"), [(10, 8.4e-3), (25, 8.8e-4), (50, 6.7e-5)])
def test_the_round_trip_is_as_short_as_measured(steps: int, wanted: float) -> None:
    """On exact Gaussian data, v-diffusion's times to their top: up with one pie step first."""
    x0 = pixels().double()
    given = process(gauss(0.5), n_steps=steps, spacing="v-spliced")
    down = materialise("v-spliced", steps, 1.0, COSINE)
    up = replace(given, solver={"solver": "iplms", "start": "improved"})
    top = Inversion(up, down, down[0]).of(x0)
    found = list(replace(given, spacing=down, n_steps=None).steps(top.x))[-1].x
    assert distance(found, x0) < 1.05 * wanted
    exact = x0 * math.hypot(COSINE.alpha(down[0]) * 0.5, COSINE.sigma(down[0])) / 0.5
    assert distance(top.x, exact) < 30 * wanted
    assert (len(top.path), top.calls) == (steps + 1, steps + 1)


def test_nothing_asked_gives_the_picture_back() -> None:
    """One denoiser, no guidance, the inversion's own condition: within the solver's error."""
    x0 = pixels()
    out = (process(toy(1), n_steps=50) | DiffStyler(x0, **ITSELF)).sample()
    assert distance(out, x0) < 2e-3
    rough = (process(toy(1), n_steps=10) | DiffStyler(x0, **ITSELF)).sample()
    assert distance(out, x0) < distance(rough, x0) / 5


def test_above_the_start_and_back_changes_little_and_learning_removes_the_error() -> None:
    """T1 > T: an identity but for the errors; each way's calls are planned and counted."""
    x0 = pixels()
    for top, learn in ((0.6, 0), (0.78, 0), (0.6, 6)):
        method = DiffStyler(x0, t_start=0.6, t_invert=top, art="none", learn=learn, measure=True)
        made = process(toy(1), n_steps=8) | method
        run = made.begin().run
        before, after = (run.report["inversion"][k] for k in ("round_trip", "learned"))
        assert before < 0.05
        if learn:
            assert after < before / 3
            assert run.before <= made.calls - 8
        else:
            assert after == before
            over = 2 + 3 if top > 0.6 else 0  # up, and back with a pie step of its own
            assert run.before == made.calls - 8 == 9 + 9 + over
    assert process(toy(1)).times == process(toy(1)).times


def test_fresh_noise_leads_to_sdedit() -> None:
    x0 = pixels()
    plain = process(toy(1), n=3)
    wanted = (plain | sf.SDEdit(x0, t0=0.7)).sample(seed=4)
    for vary, near in ((1.0, True), (0.5, False)):
        found = (plain | DiffStyler(x0, t_start=0.7, art="none", vary=vary)).sample(seed=4)
        assert torch.allclose(found, wanted, atol=1e-5) is near
        assert float((found[0] - found[1]).abs().max()) > 0.05


class Pair:
    """What the method asks of a model: a second one with its own network and schedule."""

    name = "pair"
    multiple = 1
    identity: ClassVar[dict[str, Any]] = {"weights": "none", "adapters": []}
    origin = Origin("pair", "none")

    def __init__(self, denoiser: Denoiser, other: Denoiser | None = None) -> None:
        self.denoiser = denoiser
        self.other = other
        self.memo: dict[Any, Any] = {}
        self.choice = replace(sf.load("emoji").choice)

    plain = None

    def features(self, name: str | None = None) -> None:
        return None

    def second(self, prompt: str, name: str | None) -> Pair | None:
        return None if self.other is None else Pair(self.other)

    def encode(self, texts: Any, label: Any = None, beside: Any = (), away: Any = False) -> Cond:
        """Length of the text as the condition."""
        return Cond({"c": torch.tensor([[len(text) / 10] * 3 for text in texts])})

    def phrase(self, prompt: str) -> str:
        return prompt

    def complete(self, given: Process) -> Process:
        return given

    def frame(self, given: Process, place: Any) -> Any:
        return None, given.shape

    def fits(self, *given: Any) -> None: ...

    def preview(self, step: Any, run: Any) -> None:
        return None

    def finish(self, x: Any, run: Any, trace: Any, calls: int) -> Any:
        return x


def paired(first: Denoiser, second: Denoiser, **given: Any) -> Process:
    return process(first, source=Pair(first, second), prompt="words", **given)


def test_weights_of_one_and_nothing_are_the_single_networks() -> None:
    x0, a, b = pixels(), toy(1), toy(2)
    settings: dict[str, Any] = {"t_start": 0.6}
    alone = process(a, source=Pair(a), prompt="words") | DiffStyler(x0, **settings)
    first = (paired(a, b) | DiffStyler(x0, style=0.0, **settings)).sample()
    assert torch.equal(first, alone.sample())
    # the second alone: inverted by the first, drawn by the second without a word
    start = (paired(a, b) | DiffStyler(x0, style=1.0, **settings)).begin()
    drawn = process(b, source=Pair(b), spacing=start.run.times, n_steps=None)
    state = start.start.inverted.x  # type: ignore[union-attr]
    wanted = list(drawn.steps(state))[-1].x
    found = (paired(a, b) | DiffStyler(x0, style=1.0, **settings)).sample()
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    half = DiffStyler(x0, style=0.5, art_prompt="words", **settings)
    torch.testing.assert_close((paired(a, a) | half).sample(), alone.sample(), atol=1e-5, rtol=0)


def test_a_second_schedule_is_met_at_equal_noise() -> None:
    """The same exact denoiser behind another table: nothing changes but the table's rounding."""
    x0, table = pixels(), squared_cosine(1000)
    a, b = gauss(0.5), gauss(0.5, table)
    assert isinstance(table, Table)
    assert abs(ratio(COSINE, 0.5) / ratio(table, table.at(ratio(COSINE, 0.5))) - 1) < 1e-9
    one = (paired(a, a) | DiffStyler(x0, t_start=0.6, style=0.5)).sample()
    two = (paired(a, b) | DiffStyler(x0, t_start=0.6, style=0.5)).sample()
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


def test_guidance_is_of_the_leading_denoiser_alone() -> None:
    """v = general (A_null + w (A - A_null)) + style B, as released."""
    a, b, w, x = toy(1), toy(2), 3.0, pixels()
    method = DiffStyler(pixels(), t_start=0.6, style=0.3)
    loop = (paired(a, b) | method | sf.CFG(w)).begin()
    assert loop.steering is not None
    pred = loop.steering.begin(loop.run.call(0, 0.4, 0.0))(x, 0.4)
    v = COSINE.alpha(0.4) * pred.eps - COSINE.sigma(0.4) * pred.x0

    def network(denoiser: Denoiser, length: float) -> Tensor:
        given = Cond({"c": torch.full((1, 3), length)})
        return denoiser.network(x, torch.full((1,), 0.4), given)

    prompt, null = network(a, 0.5), network(a, 0.0)
    wanted = 0.7 * (null + w * (prompt - null)) + 0.3 * network(b, 0.0)
    torch.testing.assert_close(v, wanted, atol=1e-6, rtol=0)
    assert loop.steering.mixture.calls == 2  # A's two rows share one


def test_weights_that_do_not_sum_to_one_turn_the_path_only_where_asked() -> None:
    """Spread of exact Gaussian data: 1.32 at a sum of 0.6, 0.76 at 1.4; 1 by default."""
    a = gauss(0.5)
    x0 = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.5
    for total, wanted in ((0.6, 1.32), (1.0, 1.0), (1.4, 0.76)):
        for normalise in (False, True):
            method = DiffStyler(
                x0, t_start=0.9957, style=total / 2, general=total / 2, normalise=normalise
            )
            given = replace(paired(a, a, n_steps=50, spacing="v-spliced"), shape=(3, 64, 64))
            spread = float((given | method).sample().std() / x0.std())
            assert abs(spread - (1.0 if normalise else wanted)) < 0.02, (total, normalise)


def test_guidance_ends_where_the_leading_denoiser_does() -> None:
    """The second alone is drawn as by itself, whatever the guidance of the first."""
    x0, a, b = pixels(), toy(1), toy(2)
    method = DiffStyler(x0, t_start=0.6, style=1.0)
    loop = (paired(a, b) | method | sf.CFG(5)).begin()
    found = list(loop.steps())[-1].x
    assert torch.equal(found, (paired(a, b) | method).sample())
    assert loop.calls - loop.run.before == 10


def test_an_own_push_replaces_the_methods_whatever_the_order() -> None:
    """Gradient beside DiffStyler sets the length of all guides' push, before or after it."""
    model = sf.load("emoji", dtype="float32")
    given: Any = model.process("ink drawing", steps=4, stages=1)
    x0 = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    art, push = DiffStyler(x0, content=0.5), sf.Gradient(0.4)
    one, two, plain = (
        (given | m | n).begin() for m, n in ((art, push), (push, art), (art, sf.CFG(3)))
    )
    last = [list(loop.steps())[-1].x for loop in (one, two, plain)]
    assert torch.equal(last[0], last[1])
    assert not torch.allclose(last[0], last[2], atol=1e-3)


def test_a_picture_may_be_kept_in_part(photo: Path) -> None:
    """Inpainting beside it: what the mask keeps stays, and the inversion does not know of it."""
    mask = PILImage.new("L", (96, 96), 0)
    ImageDraw.Draw(mask).rectangle([48, 0, 96, 96], fill=255)
    model = sf.load("emoji", dtype="float32")
    given: Any = model.process("ink drawing", steps=6, stages=1) | DiffStyler(photo, content=0.3)
    made = (given | sf.Inpaint(photo, mask=mask, resample=2, stretch=2)).sample(seed=0).images[0]
    plain = given.sample(seed=0).images[0]
    before = PILImage.open(photo).convert("RGB")
    left, right = (0, 0, 44, 96), (52, 0, 96, 96)
    assert made.crop(left).tobytes() == before.crop(left).tobytes()
    assert made.crop(right).tobytes() != before.crop(right).tobytes()
    assert plain.crop(left).tobytes() != before.crop(left).tobytes()


def test_the_start_is_where_the_spacing_begins() -> None:
    """No climb that was not asked for, and no inversion from a time above 0."""
    x0 = pixels()
    lower = process(toy(1), n_steps=None, spacing=(0.6, 0.4, 0.2, 0.0))
    assert (lower | DiffStyler(x0, art="none")).begin().run.before == 4
    assert (lower | DiffStyler(x0, t_start=0.6, art="none")).begin().run.before == 4
    with pytest.raises(SfumatoError, match=r"start level 0\.9: .* begin at 0\.6"):
        (lower | DiffStyler(x0, t_start=0.9, art="none")).begin()
    open_end = process(toy(1), n_steps=None, spacing=(0.6, 0.4))
    with pytest.raises(SfumatoError, match=r"spacing ends at 0\.4"):
        (open_end | DiffStyler(x0, art="none")).begin()


def test_the_second_acts_in_its_window_and_its_calls_are_saved() -> None:
    x0, a, b = pixels(), toy(1), toy(2)
    counts, pictures = [], []
    for window in ((0.0, 1.0), (0.3, 0.45), (0.0, 0.0)):
        loop = (paired(a, b) | DiffStyler(x0, t_start=0.6, style=0.5, window=window)).begin()
        last = list(loop.steps())[-1].x
        counts.append(loop.calls - loop.run.before)
        pictures.append(last)
    assert counts == [20, 13, 10]
    alone = process(a, source=Pair(a), prompt="words") | DiffStyler(x0, t_start=0.6)
    assert torch.equal(pictures[2], alone.sample())


def test_an_inversion_is_remembered_and_only_for_what_it_is_of() -> None:
    source = Pair(toy(1))
    given = process(toy(1), source=source, prompt="words")
    first = (given | DiffStyler(pixels(), t_start=0.6)).begin()
    again = (given.based(prompt="other words") | DiffStyler(pixels(), t_start=0.6)).begin()
    assert again.start.inverted is first.start.inverted  # type: ignore[union-attr]
    assert first.run.before == again.run.before == 11, "the same run records the same"
    for changed in (DiffStyler(pixels() + 0.1, t_start=0.6), DiffStyler(pixels(), t_start=0.5),
                    DiffStyler(pixels(), t_start=0.6, caption="a cat"),
                    DiffStyler(pixels(), t_start=0.6, inversion="ddim")):  # fmt: skip
        other = (given | changed).begin().start.inverted  # type: ignore[union-attr]
        assert other is not first.start.inverted  # type: ignore[union-attr]


@pytest.mark.parametrize("solver", ["ddim", "pie", "prk", "plms2", "plms-prk", "iplms", "dpmpp-2m"])
def test_every_solver_goes_both_ways(solver: str) -> None:
    x0 = pixels()
    given = process(toy(1), solver=solver, n_steps=12)
    out = (given | DiffStyler(x0, t_start=0.7, art="none", inversion=solver)).sample()
    assert torch.isfinite(out).all()
    assert distance(out, x0) < 0.2


def test_bad_settings_are_one_line() -> None:
    x0 = pixels()
    for values, words in (
        ({"window": (0.6, 0.2)}, "0 <= low <= high <= 1"),
        ({"style": 0.0, "general": 0.0}, "both 0"),
    ):
        with pytest.raises(SfumatoError, match=words):
            DiffStyler(x0, **values)  # type: ignore[arg-type]
    with pytest.raises(SfumatoError, match=r"0\.5 is below t_start 0\.6"):
        (process(toy(1)) | DiffStyler(x0, t_start=0.6, t_invert=0.5, art="none")).begin()
    with pytest.raises(SfumatoError, match="draws noise"):
        (process(toy(1)) | DiffStyler(x0, art="none", inversion="ddpm")).begin()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image = PILImage.new("RGB", (96, 96), "white")
    ImageDraw.Draw(image).ellipse([20, 20, 76, 76], fill="#cc3322")
    image.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_the_program_restyles_and_records(photo: Path, tmp_path: Path, app: Any) -> None:
    out, again = tmp_path / "out.png", tmp_path / "again.png"
    words = ["diffstyler", str(photo), "-p", "ink line drawing", "--content", "0.3", "--measure"]
    fast = ["--steps", "6", "--stages", "1", "-q"]
    made = call(app, *words, *fast, "-o", str(out))
    assert made.exit_code == 0, made.output
    assert PILImage.open(out).size == (96, 96)
    recipe = Recipe.from_json(read_metadata(out)["sfumato"])
    assert recipe.prompt == "ink line drawing"  # no style's template behind it
    assert 0 < recipe.run["inversion"]["round_trip"] < 1
    assert call(app, "run", str(out), "-o", str(again), "-q").exit_code == 0
    assert PILImage.open(out).tobytes() == PILImage.open(again).tobytes()
    line = fails(app, 1, *words, *fast, "-o", str(out), "--with", "diffstyler.art=nothing-here")
    assert "nothing-here" in line


def test_the_art_network_is_taken_where_the_prompt_names_its_style(tmp_path: Path) -> None:
    model = sf.load("emoji")
    style = of_a_style(tmp_path)
    card = replace(model.card, adapters={"ink drawing": style.name})
    model = replace(model, card=card, folder=style.parent)
    drawn = model.second("a cat, Ink line drawing")
    assert drawn is not None
    assert drawn.adapters[-1]["scale"] == 1
    assert model.second("flat") is None
    assert model.adapt("ink drawing").second("ink drawing") is drawn
