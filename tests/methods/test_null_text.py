"""Null-text inversion: what it finds again, what it leaves alone, with edits and batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sfumato as sf
from helpers.adapters import of_a_style
from helpers.families import FAMILIES, family, last, picture, process, prompts
from sfumato.core.errors import SfumatoError
from sfumato.methods.inner.null_texts import NullTexts

SETTINGS: tuple[dict[str, Any], ...] = ({"inner": 0}, {"rate": 0.1})
"""Guidance alone, and learned."""
every_family = pytest.mark.parametrize("kind", FAMILIES)


def guided(kind: str, scale: float = 4.0, **given: Any) -> Any:
    return process(kind, solver="ddim", **given) | sf.CFG(scale)


def run_of(made: Any) -> tuple[Any, Tensor]:
    with torch.no_grad():
        loop = made.begin(seed=5)
        return loop.run, loop.walk()


def off(x: Tensor, known: Tensor) -> float:
    return float((x - known).square().mean())


@every_family
def test_the_guided_return_is_nearer_to_the_picture(kind: str) -> None:
    known = picture(kind)
    plain = last(guided(kind) | sf.NullText(known, inner=0))
    run, x = run_of(guided(kind) | sf.NullText(known, rate=0.1))
    assert off(x, known) < 0.9 * off(plain, known)
    assert run.report["null_text"]["round_trip"] == pytest.approx(
        float((x - known).norm() / known.norm()), rel=1e-3
    )


@every_family
def test_without_gradient_steps_or_guidance_it_is_the_inverted_picture(kind: str) -> None:
    known = picture(kind)
    none, plain = (last(guided(kind, 1.0) | sf.NullText(known, inner=n)) for n in (10, 0))
    assert torch.equal(none, plain)
    _, x = run_of(guided(kind) | sf.NullText(known, inner=0))
    _, y = run_of(guided(kind) | sf.NullText(known, rate=0.0, inner=1))  # learned, and the same
    assert torch.equal(x, y)


def test_it_ends_where_it_is_near_enough() -> None:
    made = guided("emoji") | sf.NullText(picture("emoji"), stop=1.0)
    run, x = run_of(made)
    assert run.report["null_text"]["calls"] == 2 * len(run.times[1:])
    assert torch.equal(x, last(guided("emoji") | sf.NullText(picture("emoji"), inner=0)))


def test_no_step_ends_further_from_its_path_than_guidance_alone() -> None:
    known = picture("sd1")
    made = guided("sd1") | sf.NullText(known, rate=0.1)
    with torch.no_grad():
        loop = made.begin(seed=5)
        path = loop.start.inverted.path[::-1]
        ends = [step.x for step in loop.steps()]
        plain = [step.x for step in (guided("sd1") | sf.NullText(known, inner=0)).steps(seed=5)]
    errors = [(off(a, p), off(b, p)) for a, b, p in zip(ends, plain, path, strict=True)]
    assert all(learned <= guidance for learned, guidance in errors)
    assert errors[-1][0] < errors[-1][1]


@every_family
def test_an_edit_begins_from_the_picture_itself(kind: str) -> None:
    known, edited = picture(kind), prompts(kind)[1]
    null = sf.NullText(known, rate=0.1)
    edit = sf.PromptToPrompt(edited=(edited,))
    run, x = run_of(guided(kind) | null | edit)
    _, other = run_of(guided(kind) | edit | null)
    assert torch.equal(x, other)
    assert x.shape[0] == 2
    alone = last(guided(kind) | null)
    assert torch.allclose(x[0], alone[0], atol=2e-2)  # attention written out, in another batch
    assert off(x[0], known) < off(x[1], known)
    assert run.taps[0].name == "null_text"


def test_texts_of_any_length_go_together() -> None:
    """An edited prompt, or a caption, of more tokens than the encoder takes at once."""
    known, long = picture("sd1"), "red cat " * 20
    edit = sf.PromptToPrompt(edited=(long,))
    made = guided("sd1") | sf.NullText(known, rate=0.1)
    assert last(made | edit).shape[0] == 2
    family("sd1").memo.clear()
    spoken = guided("sd1") | sf.NullText(known, rate=0.1, caption=long)
    assert last(spoken).isfinite().all()
    last(made | sf.PromptToPrompt(edited=("red car",)))
    last(made | sf.PromptToPrompt(edited=("red cap",)))
    assert len(family("sd1").memo["null texts"]) == 2  # one for both edits


def test_each_picture_of_a_batch_is_learned_alone() -> None:
    short: Any = {"rate": 0.02, "inner": 3}  # longer steps enlarge the rounding of a batch
    states = torch.stack([picture("sd1", seed) for seed in (1, 2)])
    both = last(guided("sd1", n=2) | sf.NullText(states, **short))
    for k, state in enumerate(states):
        alone = last(guided("sd1") | sf.NullText(state, **short))
        assert float((both[k] - alone[0]).abs().max() / alone.std()) < 1e-3


def test_pieces_of_a_batch_have_their_own_texts() -> None:
    from dataclasses import replace

    states = torch.stack([picture("sd1", seed) for seed in (1, 2)])
    made = guided("sd1", n=2) | sf.NullText(states, rate=0.1)
    assert torch.allclose(last(replace(made, rows_max=1)), last(made), atol=1e-4)


@pytest.mark.parametrize("solver", ["ddim", "dpmpp-2m", "heun", "plms"])
def test_any_solver_that_draws_nothing_will_do(solver: str) -> None:
    known = picture("sd1")
    made = process("sd1", solver=solver) | sf.CFG(4)
    errors = [off(last(made | sf.NullText(known, **given)), known) for given in SETTINGS]
    assert errors[1] < errors[0]


def test_what_was_learned_is_remembered_and_counted_again() -> None:
    known = picture("sd1")
    family("sd1").memo.clear()
    made = guided("sd1") | sf.NullText(known, rate=0.1)
    first, x = run_of(made)
    kept = family("sd1").memo["null texts"]
    assert len(kept) == 1
    second, y = run_of(made)
    assert torch.equal(x, y)
    assert len(kept) == 1
    assert first.before == second.before
    for other in (
        guided("sd1", 5.0) | sf.NullText(known, rate=0.1),
        guided("sd1") | sf.NullText(known, rate=0.2),
        guided("sd1", negative="car") | sf.NullText(known, rate=0.1),
        guided("sd1", steps=5) | sf.NullText(known, rate=0.1),
    ):
        before = len(kept)
        run_of(other)
        assert len(kept) == before + 1


def test_the_plan_is_an_upper_bound_and_calls_nothing() -> None:
    made = guided("sd1") | sf.NullText(picture("sd1"), stop=0.0, slack=0.0)
    assert isinstance(made.begin(seed=0).run.taps[0], NullTexts)
    family("sd1").memo.clear()
    assert made.calls == 4 + 4 * 12 + 4
    assert not family("sd1").memo
    run, _ = run_of(made)
    assert run.before == made.calls - 4


@pytest.mark.slow
def test_it_works_beside_sine_masks_and_a_second_condition(tmp_path: Path) -> None:
    known = picture("emoji")
    art = of_a_style(tmp_path)
    made = guided("emoji") | sf.SINE(tuned=str(art), caption="apple, ink drawing")
    errors = [off(last(made | sf.NullText(known, **given)), known) for given in SETTINGS]
    assert errors[1] < errors[0]
    held = guided("emoji") | sf.NullText(known) | sf.ILVR(known, factor=4)
    assert last(held).isfinite().all()


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    known = picture("sd1")
    with pytest.raises(SfumatoError, match="solver ddpm draws noise"):
        (process("sd1", solver="ddpm") | sf.NullText(known)).begin()
    with pytest.raises(SfumatoError, match="already has sdedit as its start"):
        process("sd1") | sf.SDEdit(known) | sf.NullText(known)
    from sfumato.core.denoiser import Cond, Denoiser
    from sfumato.core.process import Process
    from sfumato.core.schedule import linear

    bare = Process(
        Denoiser(lambda x, t, c: x, linear()), (3, 4, 4), Cond(), Cond(), n_steps=2, solver="ddim"
    )
    with pytest.raises(SfumatoError, match="needs a model that reads text"):
        (bare | sf.CFG(3) | sf.NullText(torch.zeros(3, 4, 4))).begin()


def test_its_recipe_makes_it_again(tmp_path: Path) -> None:
    sf.load("emoji").process("red apple", steps=2, stages=1).sample(0).images[0].save(
        tmp_path / "apple.png"
    )
    made = guided("emoji") | sf.NullText(str(tmp_path / "apple.png"), inner=3, rate=0.1)
    made = made | sf.PromptToPrompt(edited=("green apple, 3d render",))
    result = made.sample(seed=3)
    again = sf.run(sf.Recipe.from_data(json.loads(result.recipe.to_json())))
    assert len(result.images) == 2
    assert again.images[-1].tobytes() in {image.tobytes() for image in result.images}
    found, wanted = (dict(one.recipe.run)["null_text"] for one in (again, result))
    assert found == wanted
