"""A folder of released GLIDE files, here tiny stand-ins of the same layout."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato as sf
from helpers.taps import Look, LookDeep
from helpers.unets import TEXT
from sfumato.core.errors import SfumatoError
from sfumato.models.files import vocabularies
from sfumato.models.loaders import glide, openai
from sfumato.nn.clip import CLIPConfig, NoisedCLIP
from sfumato.nn.unet import UNet

TINY = replace(TEXT, text_ctx=128, num_head_channels=32, n_vocab=50257)
FINE = replace(TINY, low_res=True, channel_mult=(1, 1, 1, 1, 1), attention_resolutions=())
CLIP = CLIPConfig(16, 8, 64, 16, 16, 1, 16, 1, 77, 49408, 1000, 100.0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """base.pt, upsample.pt and a toy GPT-2 vocabulary; presets of the same shapes."""
    configs = {"base": TINY, "upsample": FINE}
    for name, config in configs.items():
        torch.manual_seed(1)
        net = UNet(config)
        torch.save(net.state_dict(), tmp_path / f"{name}.pt")
        preset = replace(openai.PRESETS[name], config=config)
        monkeypatch.setitem(openai.PRESETS, name, preset)
    letters = "abcdefghijklmnopqrstuvwxyzĠ,"
    (tmp_path / "encoder.json").write_text(json.dumps({c: k for k, c in enumerate(letters)}))
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\n", encoding="utf-8")
    return tmp_path


def test_a_folder_is_one_cascade_with_the_notebooks_samplers(folder: Path) -> None:
    model = sf.load(str(folder), dtype="float32")
    process = model.process("a corgi")
    assert process.calls == [100, 27]
    result = model.process("a corgi", spacing="3").sample(seed=1)
    assert result.images[0].size == (256, 256)
    names = [entry["method"] for entry in result.recipe.methods]
    assert names == ["cfg", "threshold"]
    assert result.recipe.solver == {"solver": "ddpm", "variance": "auto", "last_noise": False}


def test_the_upsampler_reads_the_prompt_too(folder: Path) -> None:
    """Its text encoder gets the base's prompt: another prompt, another picture from equal input."""
    model = sf.load(str(folder), dtype="float32")
    seen = []
    encode = type(model).encode

    def spy(self: sf.Model, texts: list[str], *rest: Any) -> object:
        seen.append(list(texts))
        return encode(self, texts, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model), "encode", spy)
        model.process("a corgi", spacing="2").sample()
    assert seen.count(["a corgi"]) == 2, "once for the base, once for the upsampler"


def test_each_picture_may_have_a_prompt_in_every_stage(folder: Path) -> None:
    """The upsampler's words and noise are those of the base's pictures."""
    model = sf.load(str(folder), dtype="float32")
    plain: Any = model.process("a corgi", spacing="2")
    short = tuple(replace(process, spacing="2") for process in plain.upsamplers)
    plain = replace(plain, upsamplers=short)
    *_, both = plain.based(n=2, prompts=("a corgi", "a cat")).steps(seed=3)
    for j, prompt in enumerate(("a corgi", "a cat")):
        *_, alone = plain.based(prompt=prompt).steps(seed=3 + j)
        assert both.stage == alone.stage == 1
        assert torch.allclose(both.x[j], alone.x[0], atol=1e-4)
    *_, shared = plain.based(n=2, prompts=("a cat", "a cat"), shared=True).steps(seed=3)
    assert torch.equal(shared.x[0], shared.x[1])


def test_taps_act_in_every_stage_that_they_are_given_to(folder: Path) -> None:
    model = sf.load(str(folder), dtype="float32")
    plain: Any = model.process("a corgi", spacing="2")
    look = LookDeep()
    (plain.base | look).sample(seed=3)
    joint = look.of("probs", "joint")
    assert {site.text for site, _ in joint} == {128}
    assert {site.size for site, _ in joint} == {(32, 32)}
    *_, bare = plain.base.steps(seed=3)
    *_, looked = (plain.base | Look()).steps(seed=3)
    assert torch.equal(looked.x, bare.x)


def test_missing_vocabulary_and_long_prompts_are_said(folder: Path) -> None:
    model = sf.load(str(folder), dtype="float32")
    with pytest.raises(SfumatoError, match=r"131 tokens, this model reads 128; shorten it by 3"):
        model.process("a" * 131, spacing="2").sample()
    (folder / "vocab.bpe").unlink()
    with pytest.raises(SfumatoError, match=r"vocab\.bpe is missing"):
        sf.load(str(folder))


def test_clip_parts_are_found_where_the_release_has_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai, "CLIP", CLIP)
    assert sf.load(str(folder), dtype="float32").clip() is None
    (folder / "clip").mkdir()
    clip = NoisedCLIP(CLIP)
    torch.save(clip.image_encoder.state_dict(), folder / "clip" / "image-enc.pt")
    torch.save(clip.text_encoder.state_dict(), folder / "clip" / "text-enc.pt")
    (folder / glide.CLIP_VOCABULARY).write_bytes(b"not a vocabulary")
    model = sf.load(str(folder), dtype="float32")
    with pytest.raises(SfumatoError, match="cannot be read as CLIP's vocabulary"):
        model.clip()
    monkeypatch.setattr(
        vocabularies, "clip_tokenizer", lambda file: None
    )  # a toy has no 48894 merges
    found = model.clip().image(torch.zeros(1, 3, 64, 64), torch.tensor([7]))
    with torch.no_grad():
        expected = clip.image(torch.zeros(1, 3, 64, 64), torch.tensor([7]))
    torch.testing.assert_close(found, expected)
