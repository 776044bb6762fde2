"""A start that leaves the base out: what acts in the base alone is refused, whoever composes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import PIL.Image
import pytest
import torch

import sfumato as sf
from sfumato.core.denoiser import Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.process import Process
from sfumato.core.schedule import named
from sfumato.models.replay import compose

COSINE = named("squaredcos_cap_v2", 100)
SMALL = PIL.Image.new("RGB", (16, 16), "red")


@cache
def loaded() -> sf.Model:
    return sf.load("emoji", dtype="float32")


def upscaled(**values: Any) -> Any:
    return loaded().process(**values) | sf.Upscale(SMALL)


REFUSED: dict[str, Callable[[], Any]] = {
    "size = 512": lambda: upscaled(size=512),
    "size = 'input'": lambda: upscaled(size="input"),
    "steps = 5": lambda: upscaled(steps=5),
    "solver = 'heun'": lambda: upscaled(solver="heun"),
    "spacing = 'karras'": lambda: upscaled(spacing="karras"),
    "spacing = (0.9, 0.0)": lambda: upscaled(spacing=(0.9, 0.0)),
    "negative = 'blur'": lambda: upscaled(negative="blur"),
    "label = 3": lambda: upscaled(label=3),
    "cfg": lambda: loaded().process() | sf.CFG(5) | sf.Upscale(SMALL),
    "classifier": lambda: upscaled() | sf.Classifier("ink"),
    "steps = 4": lambda: upscaled().based(n_steps=4),
    "size = 64": lambda: upscaled().based(size=64),
}


@pytest.mark.parametrize("idle", REFUSED)
def test_what_acts_in_a_base_that_is_left_out_is_refused(idle: str) -> None:
    line = f"upscale: leaves the base out, where {idle} acts; leave that out too"
    with pytest.raises(SfumatoError) as error:
        REFUSED[idle]()
    assert str(error.value) == line


def test_what_acts_in_the_upsamplers_or_says_what_the_card_says_stays() -> None:
    card = loaded().card.defaults
    for made in (
        upscaled(n=2),
        upscaled(steps=card.steps, solver=card.solver, spacing=card.spacing) | sf.CFG(3.0),
        upscaled().based(n=2),
    ):
        assert made.calls == [0, 6]
    assert (loaded().process(steps=4)).calls[0] == 4


def test_recipes_of_such_runs_are_made_again() -> None:
    """They record all of the base; up to 0.2.0 also what a caller had said of it for nothing."""
    start = upscaled()
    pictures = {start.methods[0].image.sha256: start.methods[0].image.data}
    plain = loaded().asked(start.base)
    assert plain.steps == loaded().card.defaults.steps

    def again(recipe: sf.Recipe) -> Any:
        return compose(recipe, loaded(), [], lambda digest, name: pictures[digest])

    assert again(plain).calls == [0, 6]
    cfg = tuple({**m, "scale": 5.0} if m["method"] == "cfg" else m for m in plain.methods)
    for change in ({"size": 512}, {"steps": 3}, {"solver": "heun"}, {"methods": cfg}):
        assert again(replace(plain, run={"batch": 1}, **change)).calls == [0, 6]
        with pytest.raises(SfumatoError, match="leaves the base out"):
            again(replace(plain, **change))


def test_a_size_beside_a_tensor_is_refused() -> None:
    """The tensor says it; a run of up to 0.2.0, which took both, is made again."""
    state = torch.zeros(3, 32, 32)
    made = loaded().process(size=64, stages=1, steps=4) | sf.SDEdit(state)
    with pytest.raises(SfumatoError, match="size 64: a tensor has its own; leave size out"):
        made.plan()
    recipe = loaded().asked(made)
    pictures = {made.methods[0].image.sha256: made.methods[0].image.data}
    again = compose(
        replace(recipe, run={"batch": 1}), loaded(), [], lambda digest, name: pictures[digest]
    )
    assert again.calls == (made.based(size=None)).calls


@pytest.mark.parametrize("field", ["prompt", "negative", "label", "size"])
def test_a_process_without_a_model_reads_no_words(field: str) -> None:
    value = {"label": 3, "size": 64}.get(field, "rose")
    made = Process(
        Denoiser(lambda x, t, c: x, COSINE), (3, 4, 4), n_steps=2, solver="ddim", **{field: value}
    )
    with pytest.raises(SfumatoError, match=f"{field}: a process without a model reads none"):
        made.sample()
