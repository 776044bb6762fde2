"""FlowEdit: the edited picture moves by how two prompts differ, along a flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato as sf
from helpers.families import family
from helpers.pictures import mask_of, photo
from sfumato.core.noise import Seeded

KINDS = ("sd3", "flux-dev", "zimage")


def edited(model: sf.Model, prompt: str, method: Any, *more: Any, **options: Any) -> Any:
    process = model.process(prompt, size=32, steps=4, **options) | method
    for one in more:
        process = process | one
    return process


def guided(kind: str, scale: float) -> Any:
    return sf.DistilledGuidance(scale) if kind == "flux-dev" else sf.CFG(scale)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_prompts_and_scales_change_nothing(kind: str) -> None:
    """Beyond rounding."""
    method = sf.FlowEdit(photo(), source="red cat", source_scale=2.0)
    process = edited(family(kind), "red cat", method, guided(kind, 2.0))
    clean, *_, last = [step.x for step in process.steps(seed=3)]
    assert float((last - clean).abs().max()) < 2e-5


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_moves_as_the_paper_says(kind: str) -> None:
    """Written out by hand: two calls a step, the same noise in both."""
    model = family(kind)
    method = sf.FlowEdit(photo(), source="a dog", source_scale=1.0)
    process = edited(model, "red cat", method, guided(kind, 1.0))
    with torch.no_grad():
        states = [step.x for step in process.steps(seed=3)]
        x = z = states[0]
        noise, network = Seeded(3), model.denoiser.network
        source, target = (model.encode([text], beside=["a dog", "red cat"])
                          for text in ("a dog", "red cat"))  # fmt: skip
        for i, (t, s) in enumerate(zip(process.times, process.times[1:], strict=False)):
            noised = (1 - t) * x + t * noise.draw("flow_edit", i + 1, 0, x)
            time = torch.tensor([model.denoiser.time(t)])
            there = network(z + noised - x, time, target)
            z = z + (s - t) * (there - network(noised, time, source))
            assert float((z - states[i + 1]).abs().max()) < 1e-4
    assert float((z - x).abs().max()) > 0.05


@pytest.mark.parametrize(
    ("kind", "beside"),
    [
        ("flux-kontext", sf.Reference(photo())),
        ("flux2", sf.Reference(photo())),
        ("flux-fill", sf.Inpaint(photo(), mask=mask_of((8, 8, 24, 24)))),
    ],
)
def test_what_a_network_reads_beside_words_it_reads_of_the_source_too(
    kind: str, beside: Any
) -> None:
    """Else equal prompts and scales would change the picture."""
    distilled = kind.startswith("flux-")
    guide = sf.DistilledGuidance(2.0) if distilled else sf.CFG(2.0)
    method = sf.FlowEdit(photo(), source="red cat", source_scale=2.0)
    process = edited(family(kind), "red cat", method, beside, guide)
    clean, *_, last = [step.x for step in process.steps(seed=3)]
    assert float((last - clean).abs().max()) < 2e-5


def test_it_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(sf.SfumatoError, match="flow model"):
        (sf.load("emoji").process("red apple", stages=1) | sf.FlowEdit(photo())).sample()
    with pytest.raises(sf.SfumatoError, match="ddim"):
        edited(family("sd3"), "red cat", sf.FlowEdit(photo()), solver="ddpm").sample()


def test_a_picture_is_made_again(tmp_path: Path) -> None:
    process = edited(family("sd3"), "red cat", sf.FlowEdit(photo(), source="a dog"))
    result = process.sample(seed=1)
    assert process.calls == 4
    path = result.save(tmp_path / "made.png")[0]
    assert sf.run(path).images[0].tobytes() == result.images[0].tobytes()
