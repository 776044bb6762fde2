"""SINE: where it is guidance alone, its formula, its calls, with other methods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import sfumato as sf
from helpers.adapters import of_a_style
from helpers.families import FAMILIES, family, last, process, prompts
from sfumato.core.errors import SfumatoError

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
every_family = pytest.mark.parametrize("kind", FAMILIES)


@pytest.fixture
def tuned(tmp_path: Path) -> Any:
    """kind -> an adapter of its model: of a style, or a random LoRA."""

    def of(kind: str) -> str:
        if kind == "emoji":
            return str(of_a_style(tmp_path))
        network: Any = family(kind).denoiser.network
        rows, columns = network.net.get_submodule(LAYER).weight.shape
        generator = torch.Generator().manual_seed(1)
        stem = "lora_unet_" + LAYER.replace(".", "_")
        file = tmp_path / f"{kind}.safetensors"
        tensors = {
            f"{stem}.lora_down.weight": torch.randn(2, columns, generator=generator),
            f"{stem}.lora_up.weight": torch.randn(rows, 2, generator=generator),
            f"{stem}.alpha": torch.tensor(2.0),
        }
        save_file(tensors, file)
        return str(file)

    return of


@every_family
def test_it_is_guidance_alone_where_the_original_has_all_weight(kind: str, tuned: Any) -> None:
    """v = 1 and below K, to the bit; a tuned model that is the original, but for rounding."""
    plain = process(kind) | sf.CFG(3)
    x, caption = last(plain), prompts(kind)[1]
    weight = sf.SINE(tuned=tuned(kind), caption=caption, original=1.0)
    assert torch.equal(last(plain | weight), x)
    below = sf.SINE(tuned=tuned(kind), caption=caption, original=0.2, until=1.0)
    assert torch.equal(last(plain | below), x)
    acts = sf.SINE(tuned=tuned(kind), caption=caption)
    assert not torch.allclose(last(plain | acts), x, atol=1e-3)
    same = sf.SINE(tuned=family(kind).name, caption=prompts(kind)[0], original=0.3)
    assert torch.allclose(last(plain | same), x, rtol=1e-3, atol=1e-3)


@every_family
def test_order_changes_no_bit(kind: str, tuned: Any) -> None:
    sine, guidance = sf.SINE(tuned=tuned(kind), caption="red"), sf.CFG(3)
    one, other = process(kind) | sine | guidance, process(kind) | guidance | sine
    assert torch.equal(last(one), last(other))


def test_its_mixture_is_the_papers(tuned: Any) -> None:
    """w (v e + (1 - v) e') + (1 - w) e_null above K, of one state."""
    v, w = 0.6, 5.0
    made = process("sd1") | sf.CFG(w) | sf.SINE(tuned=tuned("sd1"), caption="red", original=v)
    with torch.no_grad():
        loop = made.begin(seed=2)
        x = loop.first()
        t, s = loop.run.times[:2]
        call = loop.run.call(0, t, s)
        parts = loop.steering.mixture.parts(x, t, call)
        mixed = loop.steering.mixture.mix(parts, t)
    wanted = w * (v * parts["positive"].eps + (1 - v) * parts["tuned"].eps)
    wanted = wanted + (1 - w) * parts["away"].eps
    assert torch.allclose(mixed.eps, wanted, rtol=1e-5, atol=1e-4)
    assert loop.calls == 2  # one for each network


def test_other_methods_see_it(tuned: Any) -> None:
    made = process("emoji") | sf.SINE(tuned=tuned("emoji"), caption="apple, ink drawing")
    edit = sf.PromptToPrompt(edited=(prompts("emoji")[1],))
    assert last(made | edit).shape[0] == 2
    guide = torch.zeros(3, 32, 32)
    assert last(made | sf.SDEdit(guide, t0=0.7) | sf.ILVR(guide, factor=4)).isfinite().all()


def test_what_cannot_be_is_said(tuned: Any) -> None:
    sine = sf.SINE(tuned=tuned("emoji"), caption="red")
    with pytest.raises(SfumatoError, match="the process already mixes general, art"):
        process("emoji") | sf.DiffStyler(torch.zeros(3, 32, 32), art=tuned("emoji")) | sine
    with pytest.raises(SfumatoError, match="nowhere"):
        process("sd1") | sf.SINE(tuned="nowhere", caption="red")
    from sfumato.core.denoiser import Denoiser
    from sfumato.core.process import Process
    from sfumato.core.schedule import linear

    bare = Process(Denoiser(lambda x, t, c: x, linear()), (3, 4, 4))
    with pytest.raises(SfumatoError, match="needs a model that can be tuned"):
        bare | sine


def test_its_recipe_makes_it_again_and_names_the_weights(tuned: Any) -> None:
    made = process("emoji") | sf.SINE(tuned=tuned("emoji"), caption="apple, ink drawing")
    result = made.sample(seed=3)
    assert result.recipe.run["weights"]["sine.tuned"]["name"] == "art.safetensors"
    again = sf.run(sf.Recipe.from_data(json.loads(result.recipe.to_json())))
    assert again.images[0].tobytes() == result.images[0].tobytes()
