"""DiffuseIT: its terms one by one, what it remembers, when it begins anew, whose eyes it has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sfumato as sf
from helpers import pipelines
from helpers.clips import clip, folder
from helpers.families import bundled, last
from helpers.pictures import photo
from helpers.program import FAST, call, home
from sfumato.core.errors import SfumatoError
from sfumato.methods.diffuseit import DiffuseIT
from sfumato.methods.inner.translation import alike, level_vector
from sfumato.models.replay import read_recipe

__all__ = ["folder", "home"]  # fixtures

NONE: dict[str, Any] = {
    "weight": 0, "structure": 0, "contrast": 0, "leave": 0, "inside": 0, "limit": 0, "repeats": 1,
}  # fmt: skip


def process(prompt: str = "", **given: Any) -> Any:
    return bundled().process(prompt, stages=1, **{"steps": 3, **given})


def test_without_its_terms_it_is_sdedit() -> None:
    plain = process(solver="ddpm") | sf.CFG(1) | sf.SDEdit(photo(), t0=0.6)
    assert torch.allclose(last(process() | DiffuseIT(photo(), **NONE)), last(plain), atol=1e-5)


@pytest.mark.parametrize(
    "term",
    [
        {"structure": 1000}, {"contrast": 200}, {"inside": 200}, {"weight": 2000, "text": "heart"},
        {"weight": 2000, "style": photo(20, 20)}, {"colour": 3000, "style": photo(20, 20)},
        {"leave": 100, "until": 0.1},
    ],
    ids=["structure", "contrast", "inside", "text", "style", "colour", "leave"],
)  # fmt: skip
def test_each_term_does_something(term: dict[str, Any]) -> None:
    style = {"style": term["style"], "colour": 0} if "style" in term else {}
    none = process() | DiffuseIT(photo(), **{**NONE, **style})
    one = process() | DiffuseIT(photo(), **{**NONE, **style, **term})
    assert not torch.allclose(last(one), last(none), atol=1e-5)


def test_terms_are_as_published() -> None:
    """The log-probability of one moment, from its parts written out."""
    method = DiffuseIT(photo(*bundled().card.native), style=photo(48, 20), limit=0)
    loop = (process() | method).begin(seed=1)
    assert loop.steering is not None
    (guide,) = [g for g in loop.steering.guides if g.name == "diffuseit"]
    call_ = loop.run.call(0, 0.6, 0.4)
    x = loop.first()
    with torch.no_grad():
        (pred,) = loop.steering.mixture.parts(x, 0.6, call_).values()
        got = guide.logp(x, pred, call_)
        vision = bundled().vision()
        assert vision is not None
        sigma = call_.sigma
        pixels = sigma * pred.x0 + (1 - sigma) * x
        assert loop.run.known is not None
        seen, source = vision(pixels), vision(loop.run.known)
        keys, own = (torch.nn.functional.normalize(s.keys, dim=-1) for s in (seen, source))
        structure = (keys @ keys.mT - own @ own.mT).square().mean((1, 2))
        logits = (keys @ own.mT / 0.07)[0]
        contrast = torch.nn.functional.cross_entropy(logits, torch.arange(len(logits)))
        out = (pred.x0 - pred.x0.clamp(-1, 1)).square().mean()
        (pull,) = guide.pulls
        loss = 1000 * structure + 200 * contrast + 200 * out + pull(pixels, seen, call_)
        assert torch.allclose(got, -loss, rtol=1e-4)
        later = guide.logp(x, pred, replace(call_, i=1, t=0.55))
        moved = guide.logp(x * 0.5, pred, replace(call_, i=1, t=0.55))
    assert later.shape == moved.shape == (1,)


def test_the_first_step_has_none_before_it() -> None:
    """Of the first evaluation and below `until` there is no push away."""
    method = DiffuseIT(photo(), **{**NONE, "leave": 100.0})
    loop = (process() | method).begin(seed=1)
    assert loop.steering is not None
    (guide,) = [g for g in loop.steering.guides if g.name == "diffuseit"]
    x = loop.first()
    with torch.no_grad():
        call_ = loop.run.call(0, 0.6, 0.4)
        (pred,) = loop.steering.mixture.parts(x, 0.6, call_).values()
        assert float(guide.logp(x, pred, call_)) == 0
        assert float(guide.logp(x * 0.9, pred, replace(call_, eval=1))) == 0  # of the same step
        assert float(guide.logp(x * 0.8, pred, replace(call_, i=1))) > 0
        assert float(guide.logp(x * 0.7, pred, replace(call_, i=2, t=0.5))) == 0


def test_the_first_step_is_walked_again() -> None:
    times = (process(steps=3) | DiffuseIT(photo(), text="x", repeats=4)).times
    plain = (process(steps=3) | sf.SDEdit(photo(), t0=0.6)).times
    assert times == (*plain[:2] * 3, *plain)
    made = process(steps=3) | DiffuseIT(photo(), text="x", repeats=4, limit=0)
    assert list(made.sample().calls) == [made.calls] == [6]


def test_it_begins_anew_and_never_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    white = sf.images.ImageInput.of(photo().point(lambda v: 255 if v > 99 else 0))
    method = DiffuseIT(white, text="heart", limit=1e-12, repeats=1, t_start=0.3)
    made = process(steps=1) | method | sf.Threshold("none")
    result = made.sample(seed=3)
    assert len(result.recipe.run["restarts"]) == 10
    assert "the best attempt is kept" in caplog.text
    calm = process(steps=1) | replace(method, limit=0.0) | sf.Threshold("none")
    assert "restarts" not in calm.sample(seed=3).recipe.run


def test_it_keeps_the_layout_and_takes_the_words() -> None:
    """Keys' likeness on against off, and the words' agreement, at the same seed."""
    steps, picture = 8, photo(*bundled().card.native)
    given: dict[str, Any] = {"repeats": 1, "limit": 0, "text": "ink drawing", "leave": 0}
    with_keys = last(process(steps=steps) | DiffuseIT(picture, **given))
    without = last(process(steps=steps) | DiffuseIT(picture, **given, structure=0, contrast=0))
    plain = last(process(steps=steps, solver="ddpm") | sf.CFG(1) | sf.SDEdit(picture, t0=0.6))
    vision, eye = bundled().vision(), bundled().clip()
    assert vision is not None
    assert eye is not None
    known = sf.images.to_work(sf.open_image(picture), process().plan().run.frame)[None]
    wanted = alike(vision(known).keys)

    def gap(x: Tensor) -> float:
        return float((alike(vision(x.clamp(-1, 1)).keys) - wanted).square().mean())

    def words(x: Tensor) -> float:
        index = torch.zeros(1, dtype=torch.long)
        return float((eye.image(x.clamp(-1, 1), index) * eye.text(["ink drawing"])).sum())

    assert gap(with_keys) < gap(without)
    assert words(without) > words(plain)


@pytest.mark.parametrize("kind", ["vit", "dinov2", "clip"])
def test_a_transformer_of_the_users(kind: str, tmp_path: Path) -> None:
    import transformers

    sizes: dict[str, Any] = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 24,
        "patch_size": 8,
    }  # fmt: skip
    if kind == "clip":
        clip(tmp_path)
    else:
        name = {"vit": "ViT", "dinov2": "Dinov2"}[kind]
        config = getattr(transformers, f"{name}Config")(**sizes, intermediate_size=32)
        given = {"add_pooling_layer": False} if kind == "vit" else {}
        net = getattr(transformers, f"{name}Model")(config, **given)
        pipelines.scrambled(net, 1).save_pretrained(tmp_path)
    vision = bundled().vision(str(tmp_path))
    assert vision is not None
    seen = vision(torch.rand(2, 3, vision.size, vision.size))
    assert seen.keys.shape[:2] == (2, 9)
    assert len(seen.whole) == 2
    made = process(steps=2) | DiffuseIT(photo(), text="heart", vit=str(tmp_path), limit=0)
    recipe = made.sample().recipe
    assert recipe.run["weights"]["diffuseit.vit"]["name"] == tmp_path.name
    own = last(process(steps=2) | DiffuseIT(photo(), text="heart", limit=0))
    assert not torch.equal(last(made), own)


def test_vectors_of_any_scale_count_alike() -> None:
    whole = torch.randn(3, 7, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(level_vector(whole * 40), level_vector(whole), atol=1e-5)
    assert torch.allclose(level_vector(whole).square().mean(1), torch.ones(3))


def test_on_a_latent_model(folder: Path, tmp_path: Path) -> None:
    model = sf.load(str(folder), dtype="float32")
    plain: Any = model.process("red cat", steps=2)
    with pytest.raises(SfumatoError, match="diffuseit: this model has no CLIP; give vit"):
        (plain | DiffuseIT(photo())).plan()
    name = str(clip(tmp_path))
    made = plain | DiffuseIT(photo(40, 36), vit=name, clip=name, repeats=2, limit=0)
    result = made.sample()
    assert result.images[0].size == (40, 36)
    assert list(result.calls) == [made.calls]


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(SfumatoError, match="nothing to translate to; give style, text or a prompt"):
        (process() | DiffuseIT(photo())).plan()
    with pytest.raises(SfumatoError, match="colour does nothing without style"):
        DiffuseIT(photo(), colour=2)
    with pytest.raises(SfumatoError, match="vit /none: no such folder"):
        (process() | DiffuseIT(photo(), text="x", vit="/none")).plan()
    with pytest.raises(SfumatoError, match="already has"):
        process() | sf.SDEdit(photo()) | DiffuseIT(photo(), text="x")


def test_the_program_and_its_recipe(app: Any) -> None:
    photo().save("a.png")
    words = ("diffuseit", "a.png", "--text", "ink drawing", "--was", "3d render", *FAST)
    result = call(app, *words, "-o", "b.png")
    assert result.exit_code == 0, result.output
    recipe = sf.Recipe.from_data(json.loads(read_recipe("b.png").to_json()))
    assert sf.run(recipe).images[0].tobytes() == sf.open_image("b.png").tobytes()
