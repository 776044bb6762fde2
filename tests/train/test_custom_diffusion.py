"""Custom Diffusion: what is trained and what is not, its files, a word in them, an edit with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import sfumato as sf
from helpers.families import family, last, picture
from helpers.subjects import recipe, trained
from sfumato.core.errors import SfumatoError
from sfumato.train.config import Config
from sfumato.train.subject import planning
from sfumato.train.subject.class_pictures import wanted_of

TUNER = "custom_diffusion"


def taught(kind: str, pictures: Path, **changes: Any) -> Config:
    given = {"class_folder": str(pictures), **changes.pop("subject", {})}
    name = "emoji" if kind == "emoji" else family(kind).folder
    return recipe(Path(str(name)), pictures, TUNER, subject=given, **changes)


def weights(network: Any) -> dict[str, Tensor]:
    return dict(getattr(network, "net", network).state_dict())


@pytest.mark.parametrize("kind", [pytest.param("emoji", marks=pytest.mark.slow), "sd1", "sdxl"])
def test_keys_and_values_of_text_and_a_word_are_learned(
    kind: str, pictures: Path, tmp_path: Path
) -> None:
    """Every other weight has its own bits; the files alone say what was learned."""
    trained(taught(kind, pictures), tmp_path / "run")
    note = json.loads((tmp_path / "run" / "run.json").read_text())
    model, before = family(kind), family(kind)
    files = [tmp_path / "run" / "adapter.safetensors"]
    if kind != "emoji":
        word = "learned_embeds" if kind == "sd1" else note["name"]
        assert note["name"] == ("<dog>" if kind == "sd1" else "my-dog")
        files = [tmp_path / "run" / f"{n}.safetensors" for n in ("pytorch_lora_weights", word)]
    for file in files:
        model = model.adapt(file)
    old, new = weights(before.denoiser.network), weights(model.denoiser.network)
    ends = ("encoder_kv.weight", "attn2.to_k.weight", "attn2.to_v.weight", "embedding.weight")
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed
    assert all(name.endswith(ends) for name in changed), changed
    if kind == "emoji":
        table = "token_embedding.weight"
        rows = (old[table] != new[table]).any(1).nonzero().flatten().tolist()
        assert rows == sorted(set(note["tokens"]))
    prompt = note["prompt"]
    x, y = (last(one.process(prompt, steps=2, stages=1)) for one in (model, before.adapt(files[0])))
    assert kind == "emoji" or not torch.equal(x, y), "the word says something"


def test_a_run_goes_on_to_the_same_bits(pictures: Path, tmp_path: Path) -> None:
    one = trained(taught("sd1", pictures), tmp_path / "one")
    two = trained(taught("sd1", pictures), tmp_path / "two")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    words = [name for name in one if "word" in name]
    assert words


def test_several_vectors_make_one_word(pictures: Path, tmp_path: Path) -> None:
    trained(taught("sd1", pictures, subject={"vectors": 2}), tmp_path / "run")
    words = load_file(tmp_path / "run" / "learned_embeds.safetensors")
    assert words["<dog>"].shape == (2, 32)
    with pytest.raises(SfumatoError, match="learns the rows of a word that it has"):
        trained(taught("emoji", pictures, subject={"vectors": 2}), tmp_path / "own")


def test_custom_edit_is_a_composition(pictures: Path, tmp_path: Path) -> None:
    """Tuned model, null-text inversion, prompt-to-prompt; without its windows it is the tuned
    model's own batch."""
    trained(taught("sd1", pictures), tmp_path / "run")
    model = family("sd1")
    for name in ("pytorch_lora_weights", "learned_embeds"):
        model = model.adapt(tmp_path / "run" / f"{name}.safetensors")
    made = model.process("red cat", steps=3, solver="ddim") | sf.CFG(3)
    made = made | sf.NullText(picture("sd1"), rate=0.1)
    edited = ("red <dog>",)
    x = last(made | sf.PromptToPrompt(edited=edited))
    free = last(made | sf.PromptToPrompt(edited=edited, cross=0, layout=0, pooled=0))
    assert torch.allclose(x[0], free[0], atol=1e-2)
    assert not torch.allclose(x[1], free[1], atol=1e-2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adapter": {"rank": 0}}, "adapter.rank is 0"),
        ({"adapter": {"targets": ["conv"]}}, "it trains text_kv alone"),
    ],
)
def test_what_cannot_be_is_said(
    changes: dict[str, Any], said: str, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(SfumatoError, match=said):
        trained(taught("sd1", pictures, **changes), tmp_path / "run")


@pytest.mark.parametrize("tuner", ["dreambooth", "sine", TUNER])
def test_whoever_keeps_a_class_makes_its_pictures(tuner: str, pictures: Path) -> None:
    """Without a folder of them, whatever the tuner is called."""
    model = family("emoji")
    plain = recipe(Path("emoji"), pictures, tuner, subject={"prior": 1.0})
    wanted = wanted_of(plain, model)
    assert wanted is not None
    assert wanted.count == plain.subject.class_pictures
    lines = planning.sentences(plain, model)
    assert any("pictures to make" in line for line in lines)
