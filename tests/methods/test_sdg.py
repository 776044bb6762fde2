"""Semantic diffusion guidance: what is compared, where the push goes, and what turns it off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sfumato as sf
from helpers.clips import clip, folder
from helpers.families import bundled, last
from helpers.pictures import photo
from helpers.program import FAST, call, home
from sfumato.core.errors import SfumatoError
from sfumato.methods.inner.semantic import STYLES, content, gram, structure, style
from sfumato.methods.sdg import SDG
from sfumato.models.replay import read_recipe

__all__ = ["folder", "home"]  # fixtures


def process(prompt: str = "", **given: Any) -> Any:
    return bundled().process(prompt, stages=1, **{"steps": 4, **given})


def layers(seed: int) -> list[Tensor]:
    """Of a tower of seven blocks."""
    generator = torch.Generator().manual_seed(seed)
    tokens = [torch.randn(2, 5, 6, generator=generator) for _ in range(7)]
    vectors = torch.randn(2, 4, generator=generator)
    return [*tokens, torch.nn.functional.normalize(vectors, dim=1)]


def test_what_is_compared() -> None:
    a, b = layers(1), layers(2)
    assert torch.allclose(content(a, a), torch.ones(2))
    for alike in (structure, style):
        assert torch.allclose(alike(a, a), torch.zeros(2), atol=1e-6)
        assert float(alike(a, b).max()) < 0
    units = [torch.nn.functional.normalize(x[-2][:, 1:], dim=-1) for x in (a, b)]
    wanted = -(units[0] - units[1]).square().sum(-1).mean(1)
    assert torch.allclose(structure(a, b), wanted)
    moved = [torch.cat([x[:, :1], x[:, 1:].roll(1, 1)], 1) if x.ndim == 3 else x for x in a]
    assert torch.allclose(style(a, moved), torch.zeros(2), atol=1e-6)  # wherever patches are
    assert float(structure(a, moved).max()) < 0
    assert torch.allclose(gram(a[0]).diagonal(dim1=1, dim2=2).sum(1), torch.ones(2))
    gaps = [(gram(x) - gram(y)).square().sum((1, 2)) for x, y in zip(a[:-1], b[:-1], strict=True)]
    chosen = [0, 2, 3, 5, 6]  # five of the seven blocks, the last among them
    assert len(chosen) == STYLES
    assert torch.allclose(style(a, b), -torch.stack([gaps[k] for k in chosen]).mean(0))


def test_layers_end_with_the_clips_own_vector(folder: Path, tmp_path: Path) -> None:
    noised = bundled().clip()
    clean = sf.load(str(folder), dtype="float32").clip(str(clip(tmp_path)))
    for own in (noised, clean):
        assert own is not None
        side = own.size
        x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
        time = torch.tensor([3, 3])
        *tokens, vectors = own.layers(x, time)
        assert torch.equal(vectors, own.image(x, time))
        assert {len(t) for t in tokens} == {2}
        assert {t.ndim for t in tokens} == {3}


@pytest.mark.parametrize(
    "given",
    [{"image": photo(), "weight": 0}, {"text": "blue heart", "text_weight": 0}],
    ids=["picture", "text"],
)
def test_no_strength_changes_no_bit(given: dict[str, Any]) -> None:
    plain = process(solver="ddpm") | sf.CFG(1)
    assert torch.equal(last(process() | SDG(**given)), last(plain))


def agreement(x: Tensor, wanted: Tensor) -> float:
    own = bundled().clip()
    assert own is not None
    vectors = own.image(x.clamp(-1, 1), torch.zeros(len(x), dtype=torch.long))
    return float((vectors * wanted).sum(1).mean())


def test_it_moves_towards_text_and_picture() -> None:
    own = bundled().clip()
    assert own is not None
    wanted = own.text(["blue heart, flat"])
    steps, plain = 10, process(solver="ddpm", steps=10, n=2) | sf.CFG(1)
    by_text = process(steps=steps, n=2) | SDG(text="blue heart, flat", text_weight=400)
    assert agreement(last(by_text), wanted) > agreement(last(plain), wanted) + 0.05
    picture = photo(*bundled().card.native)
    known = sf.images.to_work(sf.open_image(picture), process().plan().run.frame)[None]
    seen = own.image(known, torch.zeros(1, dtype=torch.long))
    by_picture = process(steps=steps, n=2) | SDG(picture, weight=400)
    assert agreement(last(by_picture), seen) > agreement(last(plain), seen) + 0.05


def test_ddpm_shifts_its_mean_and_others_their_prediction() -> None:
    method = SDG(text="blue heart", text_weight=50)
    for solver, shifts in (("ddpm", True), ("ddim", False)):
        loop = (process(solver=solver) | method | sf.Threshold("none")).begin(seed=1)
        assert loop.steering is not None
        call_ = loop.run.call(1, 0.75, 0.5)
        x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            pred = loop.steering.begin(call_)(x, 0.75)
        (bare,) = loop.steering.mixture.parts(x, 0.75, call_).values()
        assert (pred.grad is not None) == shifts
        if shifts:
            kept = pred.grad
            assert torch.allclose(pred.eps, bare.eps)
        else:
            sigma = loop.run.schedule.sigma(0.75)
            assert torch.allclose((bare.eps - pred.eps) / sigma, kept, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("what", ["content", "structure", "style"])
def test_pictures_of_a_batch_are_as_if_alone(what: Any) -> None:
    method = SDG(photo(), what=what, text="heart")
    both = last(process(n=2) | method)
    for row in range(2):
        assert torch.allclose(both[row], last(process() | method, seed=5 + row)[0], atol=1e-3)
    assert not torch.allclose(both, last(process(n=2, solver="ddpm") | sf.CFG(1)), atol=1e-3)


def test_a_clean_clip_looks_at_the_predicted_picture(folder: Path, tmp_path: Path) -> None:
    model = sf.load(str(folder), dtype="float32")
    plain: Any = model.process("red cat", steps=2, solver="ddpm") | sf.CFG(1)
    with pytest.raises(SfumatoError, match="sdg: this model has no CLIP; give clip"):
        (plain | SDG(photo())).plan()
    name = str(clip(tmp_path))
    with pytest.raises(SfumatoError, match="sdg: this CLIP has never seen latents"):
        (plain | SDG(photo(), clip=name)).plan()
    for what in ("content", "structure", "style"):
        made = plain | SDG(photo(40, 30), what=what, clip=name, noised=False)
        assert not torch.equal(last(made), last(plain))


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(SfumatoError, match="nothing to steer to; give image, or text"):
        process() | SDG()
    with pytest.raises(SfumatoError, match="what does nothing without image"):
        SDG(text="heart", what="style")


def test_the_program_and_its_recipe(app: Any) -> None:
    photo().save("ref.png")
    result = call(app, "sdg", "--image", "ref.png", "--text", "heart", *FAST, "-o", "a.png")
    assert result.exit_code == 0, result.output
    recipe = sf.Recipe.from_data(json.loads(read_recipe("a.png").to_json()))
    assert "ddpm" in str(recipe.solver)
    result_again = sf.run(recipe).images[0]
    assert result_again.tobytes() == sf.open_image("a.png").tobytes()
