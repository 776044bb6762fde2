"""Every field does something: changed in any setting of the others, it changes the result, is
refused, or is among those that act on other pictures alone."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

import sfumato as sf
from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.process import Process
from sfumato.core.schedule import linear
from sfumato.methods import Method

TABLE = linear()
MADE = torch.Generator().manual_seed(5)
KNOWN, OTHER = torch.rand(2, 3, 12, 12, generator=MADE) * 1.6 - 0.8
MASK = torch.zeros(1, 12, 12)
MASK[:, 3:9, 2:8] = 1


def network(x: Tensor, time: Tensor, cond: Any) -> Tensor:
    words = cond["words"][:, :1, None, None] if "words" in cond else 0.3
    pulled = x.roll(1, -1) * 0.3 + x.roll(1, -2) * 0.2 + 0.5 * (x * 1.3).tanh()
    return pulled + words * (x + time[:, None, None, None] / 1000).sin()


def process(*parts: Method) -> Process:
    made = Process(
        Denoiser(network, TABLE), (3, 12, 12), n_steps=12, solver="ddim",
        cond=Cond({"words": torch.ones(1, 2)}), null=Cond({"words": -torch.ones(1, 2)}),
    )  # fmt: skip
    for part in parts:
        made = made | part
    return made


OTHERS: dict[type[Method], dict[str, tuple[Any, ...]]] = {
    sf.SDEdit: {
        "image": (KNOWN, OTHER), "t0": (None, 0.8, 0.95), "ratio": (None, 3.0),
        "alpha_bar": (None, 0.2), "repeats": (1, 2), "mask": (None, MASK), "invert": (False, True),
        "grow": (0, 1), "feather": (0.0, 2.0), "alpha_mask": (False, True),
        "composite": ("level", "reference"), "noise": ("auto", "step", "start"),
        "last_noise": (False, True), "match_colour": (False, True), "background": ("white", "red"),
        "strokes": (None,), "t0_map": (None, MASK),
    },
    sf.Inpaint: {
        "image": (KNOWN, OTHER), "mask": (MASK, None), "invert": (False, True), "grow": (0, 1),
        "feather": (0.0, 2.0), "alpha_mask": (False, True), "extend": ((0, 0, 0, 0), (1, 0, 0, 0)),
        "network": ("auto", "plain", "tuned"), "resample": (1, 2), "stretch": (10, 2),
        "background": ("white", "red"),
    },
    sf.Threshold: {"mode": ("static", "dynamic", "none"), "quantile": (0.995, 0.5)},
    sf.CFG: {
        "scale": (3.0, 0.0, 1.0), "window": ((0.0, 1.0), (0.3, 0.7)), "rescale": (0.0, 0.6),
        "adapters": ("both", "prompt"),
    },
    sf.ILVR: {
        "image": (KNOWN, OTHER), "factor": (4.0, 2.0), "start": (1.0, 0.7), "stop": (0.0, 0.4),
        "kernel": ("cubic", "linear", "box"), "level": ("matched", "reference"),
        "noise": ("fresh", "fixed"), "background": ("white", "red"),
    },
    sf.LowPass: {
        "image": (KNOWN, OTHER), "weight": (1000.0, 0.0), "on": ("mixture", "positive"),
        "window": ((0.0, 1.0), (0.3, 0.7)), "through": ("prediction", "network"),
        "mask": (None, MASK), "decoder": ("full", "tiny"), "factor": (8.0, 3.0),
        "kernel": ("cubic", "box"),
    },
    sf.Temperature: {"value": (0.997, 0.5)},
}  # fmt: skip
"""Values of every field, the default or what is needed first."""

FINE = {
    ("sdedit", "image"): "t0 = 1 is noise alone",
    ("sdedit", "composite"): "without a mask it says how a run begins at t0 = 1 alone",
    ("sdedit", "noise"): "auto is one of the other two, by the solver",
    ("inpaint", "network"): "says of a network without mask channels that it is not told",
    ("low_pass", "decoder"): "of models of latents",
    ("low_pass", "on"): "one branch is the mixture",
    ("cfg", "adapters"): "of models with adapters",
    ("cfg", "window"): "a scale of 1 guides at no time",
    ("cfg", "rescale"): "a scale of 1 changes no contrast",
}
"""Fields that act on other pictures or models, or say what is so already; and a strength at which
the whole method is nothing, whose other fields are left in peace: a row of strengths begins with
it."""


def result(kind: type[Method], values: dict[str, Any]) -> Tensor:
    made: Tensor = process(kind(**values)).sample(seed=4)
    return made


def modes(kind: type[Method]) -> list[dict[str, Any]]:
    """The needed values alone, and with one or two fields more set to each of their values."""
    table = OTHERS[kind]
    first = {name: values[0] for name, values in table.items()}
    found = [first]
    for name, values in table.items():
        found += [{**first, name: value} for value in values[1:]]
    two = [
        {**one, name: value}
        for one in found[1:]
        for name, values in table.items()
        for value in values[1:]
        if one[name] is first[name]
    ]
    return found + two if len(two) < 40 else found


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.id)
def test_a_field_that_is_taken_changes_the_result(kind: type[Method]) -> None:
    known: Any = kind
    assert set(OTHERS[kind]) == {field.name for field in fields(known)}
    idle = []
    for mode in modes(kind):
        try:
            plain = result(kind, mode)
        except SfumatoError:
            continue
        for name, values in OTHERS[kind].items():
            if mode[name] is not values[0]:
                continue
            for value in values[1:]:
                try:
                    changed = result(kind, {**mode, name: value})
                except SfumatoError:
                    continue
                off = mode.get("weight") == 0
                if torch.equal(plain, changed) and (kind.id, name) not in FINE and not off:
                    idle.append(f"{name} = {value!s:.60} beside {mode!s:.900}")
    assert not idle, idle
