"""Fields that another field makes do nothing: refused where they are given, whoever gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from functools import cache
from typing import Any, Literal, get_args, get_origin

import PIL.Image
import pytest
import torch

import sfumato as sf
from sfumato import methods
from sfumato.cli.fields import plain
from sfumato.core.errors import SfumatoError
from sfumato.core.idle import needs_of
from sfumato.core.process import Process
from sfumato.core.solvers import EDM, PLMS, SOLVERS, acting, solver
from sfumato.models.replay import compose
from sfumato.train.config import Config, parse
from sfumato.train.reads import Reads

STATE, MASK = torch.zeros(3, 8, 8), torch.ones(1, 8, 8)
PICTURE = PIL.Image.new("RGB", (8, 8))
SAYS = "does nothing"

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "noise, no mask": (lambda: sf.SDEdit(STATE, noise="step"), "noise does nothing without mask"),
    "last noise, level": (
        lambda: sf.SDEdit(STATE, mask=MASK, last_noise=True),
        "last_noise does nothing without composite=reference; give that too, or leave last_noise",
    ),
    "last noise, no mask": (
        lambda: sf.SDEdit(STATE, composite="reference", last_noise=True),
        "last_noise does nothing without mask, alpha_mask or strokes",
    ),
    "grow": (lambda: sf.SDEdit(PICTURE, grow=2), "grow does nothing without mask"),
    "feather": (lambda: sf.SDEdit(PICTURE, feather=2), "feather does nothing without mask"),
    "invert": (lambda: sf.SDEdit(PICTURE, invert=True), "invert does nothing without mask"),
    "behind a state": (lambda: sf.ILVR(STATE, background="red"), "background is for pictures"),
    "stretch": (
        lambda: sf.Inpaint(STATE, mask=MASK, stretch=3),
        "stretch does nothing without resample above 1",
    ),
    "margins inverted": (
        lambda: sf.Inpaint(PICTURE, extend=(1, 0, 0, 0), invert=True),
        "invert does nothing without mask or alpha_mask",
    ),
    "quantile": (lambda: sf.Threshold(quantile=0.9), "quantile does nothing without mode=dynamic"),
    "window, no art": (
        lambda: sf.DiffStyler(STATE, art="none", window=(0.1, 1.0)),
        "window does nothing without art other than none",
    ),
    "normalise, no style": (
        lambda: sf.DiffStyler(STATE, style=0, normalise=False),
        "normalise does nothing without style above 0",
    ),
    "art_prompt": (lambda: sf.DiffStyler(STATE, style=0, art_prompt="ink"), "art_prompt does"),
    "general": (lambda: sf.DiffStyler(STATE, style=0, general=0.5), "general does nothing"),
    "style": (lambda: sf.DiffStyler(STATE, art="none", style=0.3), "style does nothing"),
    "contrast, no push": (lambda: sf.DiffStyler(STATE, push=0, contrast=2), "contrast does"),
    "contrast, no content": (lambda: sf.DiffStyler(STATE, content=0, contrast=2), "contrast does"),
    "until": (lambda: sf.DiffStyler(STATE, contrast=0, until=0.2), "until does nothing without"),
    "content": (
        lambda: sf.DiffStyler(STATE, content=0.3, t_start=0.5, push=0.1, until=0.2),
        "content does nothing beside t_start and push and until; leave content out",
    ),
    "source": (lambda: sf.Instruction(source="photo"), "source does nothing without form="),
    "content picture": (lambda: sf.Instruction(image=PICTURE), "image does nothing without form="),
    "cut_power": (lambda: sf.Aesthetic(cutouts=0, cut_power=2), "cut_power does nothing without"),
    "fresh": (lambda: sf.Instruction(cutouts=0, fresh=True), "fresh does nothing without cutouts"),
    "decoder": (lambda: sf.CLIPGuidance(decoder="tiny"), "decoder does nothing without noised=no"),
    "churn": (lambda: EDM(churn=0, s_noise=1), "s_noise does nothing without churn above 0"),
    "by name": (lambda: solver({"solver": "edm", "churn": 0, "s_min": 1}), "s_min does nothing"),
    "of": (lambda: PLMS(order=1, start="euler", of="v"), "of does nothing without order above 1"),
    "start": (lambda: PLMS(order=1, start="pie"), "start 'pie' does nothing at order 1; take"),
    "start by an id": (
        lambda: solver({"solver": "plms-prk", "order": 1}),
        "solver plms-prk: start 'prk' does nothing at order 1; take iplms",
    ),
    "a recipe": (
        lambda: methods.from_data({"method": "threshold", "quantile": 0.9}, "recipe"),
        "recipe: threshold: quantile does nothing without mode=dynamic",
    ),
    "a recipe's solver": (
        lambda: sf.Recipe.from_data({"model": "x", "solver": {"solver": "edm", "churn": 0.0,
                                                              "s_noise": 1.0}}),
        "recipe: solver edm: s_noise does nothing without churn above 0",
    ),
    "revised": (
        lambda: process(sf.Threshold()).revised("threshold", quantile=0.9),
        "quantile does nothing without mode=dynamic",
    ),
}  # fmt: skip

TRAINING: dict[str, tuple[str, dict[str, Any], str]] = {
    "subject": ("diffusion", {"subject": {"noun": "dog"}}, "subject does nothing without tuner="),
    "mix": ("dreambooth", {"mix": {"hue": 0.1}}, "mix does nothing without tuner="),
    "data": ("p_plus", {"data": {"size": 64}}, "data does nothing without tuner="),
    "adapter": ("judge", {"adapter": {"rank": 4}}, "adapter does nothing without tuner="),
    "objective": ("judge", {"objective": {"norm": "l1"}}, "objective does nothing without tuner"),
    "norm": ("contrastive", {"objective": {"norm": "l1"}}, "norm does nothing without tuner="),
    "kind": ("classifier", {"model": {"kind": "eps"}}, "kind does nothing without tuner=diffusion"),
    "schedule": ("judge", {"model": {"schedule": "linear"}}, "schedule does nothing without"),
    "lines": ("diffusion", {"data": {"lines": 0.5}}, "lines does nothing without tuner=judge"),
    "alpha": ("diffusion", {"adapter": {"alpha": 4.0}}, "alpha does nothing without rank above 0"),
    "convention": (
        "dreambooth",
        {"subject": {"prior": 0.0, "convention": "mean"}},
        "convention does nothing without prior above 0",
    ),
    "adapter of a word": (
        "p_plus",
        {"adapter": {"rank": 2, "alpha": 4.0}},
        "alpha does nothing without tuner=",
    ),
    "prior of a word": ("p_plus", {"subject": {"prior": 0.5}}, "prior does nothing without tuner"),
    "drop of a word": ("textual_inversion", {"subject": {"drop": 0.5}}, "drop does nothing"),
    "wording of a word": ("p_plus", {"subject": {"wording": "my {}"}}, "wording does nothing"),
    "vectors": ("dreambooth", {"subject": {"vectors": 2}}, "vectors does nothing without tuner="),
    "crop": ("dreambooth", {"subject": {"crop": 32}}, "crop does nothing without upsampler"),
    "floor": ("diffusion", {"optim": {"decay_from": 1.0, "floor": 0.1}}, "floor does nothing"),
    "prompts": ("judge", {"run": {"prompts": ["a"]}}, "prompts does nothing without tuner="),
}


@cache
def loaded() -> sf.Model:
    return sf.load("emoji", dtype="float32")


def process(*parts: Any) -> Process:
    made = loaded().process("rose", steps=2, stages=1)
    for part in parts:
        made = made | part
    return made


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_nothing_is_refused_in_one_line(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(SfumatoError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("case", TRAINING)
def test_a_training_recipe_holds_nothing_idle(case: str) -> None:
    tuner, tables, message = TRAINING[case]
    with pytest.raises(SfumatoError) as error:
        parse({"name": "a", "tuner": tuner, **tables})
    assert message in str(error.value)


def test_a_default_that_is_given_is_no_field_that_does_nothing() -> None:
    assert sf.SDEdit(STATE, noise="auto", last_noise=False, grow=0) == sf.SDEdit(STATE)
    assert sf.Threshold("static", 0.995) == sf.Threshold()
    assert EDM(churn=0, s_noise=1.003) == EDM(churn=0)


def test_what_a_revision_switches_off_goes_back_to_its_default() -> None:
    made = process(sf.Threshold("dynamic", 0.9)).revised("threshold", mode="static")
    assert made.methods == (sf.Threshold("static"),)
    chain = sf.SDEdit(STATE, mask=MASK, composite="reference", last_noise=True, noise="start")
    assert chain.changed(composite="level") == sf.SDEdit(STATE, mask=MASK, noise="start")
    styled = sf.DiffStyler(STATE, general=0.3, art_prompt="ink", window=(0.2, 0.9))
    assert styled.changed(style=0) == sf.DiffStyler(STATE, style=0)
    with pytest.raises(SfumatoError, match="threshold: no field 'mood'"):
        made.revised("threshold", mood=1)
    with pytest.raises(SfumatoError, match="must not be a bool"):
        made.revised("threshold", quantile=True)


def test_a_recipe_of_a_run_keeps_what_did_nothing() -> None:
    """Versions up to 0.2.0 took it, so the same run is made again from such a recipe."""
    recipe = process(sf.Threshold()).sample(seed=3).images[0].recipe
    (entry,) = (one for one in recipe.methods if one["method"] == "threshold")
    old = tuple({**one, "quantile": 0.9} if one is entry else one for one in recipe.methods)
    assert methods.from_data({"method": "threshold", "quantile": 0.9}, ran=True).id == "threshold"
    model = loaded()
    again = compose(replace(recipe, methods=old), model, [])
    assert any(getattr(m, "quantile", None) == 0.9 for m in again.methods)
    with pytest.raises(SfumatoError, match=SAYS):
        compose(replace(recipe, methods=old, run={}), model, [])
    chosen = {"solver": "edm", "churn": 0.0, "s_noise": 1.0}
    data = {"model": "x", "solver": chosen, "run": {"dtype": "float32"}}
    assert sf.Recipe.from_data(data).solver == acting(chosen) == {"solver": "edm", "churn": 0.0}
    for id_, start in (("plms-prk", {"start": "prk"}), ("plms2", {}), ("iplms", {"start": "pie"})):
        older = {"model": "x", "solver": {"solver": id_, "order": 1, **start}, "run": {"batch": 1}}
        assert sf.Recipe.from_data(older).solver == {"solver": "iplms", "order": 1}


def test_what_nothing_in_the_run_uses_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Strengths at which they are nothing are no errors: a row of them begins there."""
    given = loaded().process("rose", negative="blue", steps=2, stages=1)
    lines = {
        "negative: does nothing, since nothing guides": given | sf.CFG(1),
        "gradient: does nothing, since no gradient guides": process(sf.Gradient(0.3)),
        "inpaint: resample does nothing": process(
            sf.Inpaint(STATE.new_zeros(3, 32, 32), mask=torch.ones(1, 32, 32), resample=2)
        ),
    }
    for line, made in lines.items():
        caplog.clear()
        made.begin()
        assert line in caplog.text
    caplog.clear()
    given.begin()
    (given | sf.CFG(2)).begin()
    process(sf.Gradient(0.3), sf.TotalVariation()).begin()
    process(sf.CFG(1, window=(0.2, 0.9), rescale=0.5)).begin()
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def holders() -> dict[str, Any]:
    """Every class with fields that users set, by name."""
    kinds: dict[str, Any] = dict(methods.registry())
    for name, make in SOLVERS.items():
        kinds[f"solver {name}"] = getattr(make, "func", make)
    config: Any = Config
    for field in fields(config):
        if field.default_factory is not MISSING:
            kinds[f"training {field.name}"] = field.default_factory
    return {**kinds, "training recipe": Config}


@pytest.mark.parametrize("name", holders())
def test_needs_name_fields_and_values_that_there_are(name: str) -> None:
    """A need that no setting meets, or of a field that is misspelt, would refuse everything."""
    kind = holders()[name]
    if not hasattr(kind, "__dataclass_fields__"):
        return  # a function that makes a solver without options
    whole = parse({"name": "a", "tuner": "diffusion"}) if name.startswith("training") else None
    known = {field.name for field in fields(kind)}
    for field, needs in needs_of(kind).items():
        assert field in known
        for part in (part for need in needs for part in need.split("|")):
            other = part.lstrip("!").replace("!=", "=").replace(">", "=").replace("~", "=")
            path, _, values = other.partition("=")
            owner = kind if path in known else type(whole)
            if path.startswith("reads."):  # what a tuner says itself
                owner, path = Reads, path.removeprefix("reads.")
            assert path in {f.name for f in fields(owner)}, f"{name}.{field}: {part}"
            kept = plain(getattr(owner, "__pydantic_fields__", {}).get(path, None) and
                         owner.__pydantic_fields__[path].annotation)  # fmt: skip
            if get_origin(kept) is Literal and values:
                assert set(values.split(",")) <= set(map(str, get_args(kept)))
