"""The decoder in bfloat16: how near it stays, what keeps float32, and what a recipe says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sfumato as sf
from helpers import pipelines
from sfumato.models.latents import Latents
from sfumato.models.loaders.decoders import decoding

Z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("decoding")
    pipelines.stable(root, "sd1")
    return root / "pipeline"


def decibels(one: torch.Tensor, exact: torch.Tensor) -> float:
    error = (one - exact).pow(2).mean()
    return float(10 * torch.log10((exact.max() - exact.min()) ** 2 / error))


def test_bfloat16_stays_45_db_near_and_is_float32_again_under_gradients() -> None:
    space = Latents.of(pipelines.autoencoder())
    lean = space.lean(torch.bfloat16)
    exact = space.decode(Z).detach()
    with torch.no_grad():
        quick = lean.decode(Z)
    assert quick.dtype == torch.float32
    assert not torch.equal(quick, exact)
    assert decibels(quick, exact) > 45
    assert torch.equal(lean.encode(exact), space.encode(exact))
    assert torch.equal(lean.decode(Z.clone().requires_grad_()).contiguous(), exact)


def test_pictures_of_a_batch_have_the_bits_of_single_ones() -> None:
    lean = Latents.of(pipelines.autoencoder()).lean(torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(lean.decode(Z)[1:], lean.decode(Z[1:]))


def test_other_autoencoders_keep_float32() -> None:
    tiny = Latents.of(pipelines.tiny_autoencoder())
    assert tiny.lean(torch.bfloat16) is tiny


def test_the_type_of_the_model_is_the_decoders_and_a_recipe_replays_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    exact, lean = (sf.load(folder.name, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert isinstance(exact.space, Latents)
    assert exact.space.decoding == torch.float32
    result = lean.process("a cat", steps=2).sample(3)
    assert result.recipe.run["decoder"] == "bfloat16"
    assert "decoder" not in exact.process("a cat", steps=2).sample(3).recipe.run
    (path,) = result.save(tmp_path / "a.png")
    assert sf.run(path).images[0].tobytes() == result.images[0].tobytes()

    earlier = {name: v for name, v in result.recipe.run.items() if name != "decoder"}
    again = sf.run(replace(result.recipe, run=earlier))
    assert "decoder" not in again.recipe.run
    whole = decoding(lean, "float32").process("a cat", steps=2).sample(3)
    assert again.images[0].tobytes() == whole.images[0].tobytes()


def test_another_autoencoder_decodes_as_the_model_did(folder: Path, tmp_path: Path) -> None:
    pipelines.autoencoder().save_pretrained(tmp_path / "vae")
    adapted = sf.load(str(folder), dtype="bfloat16").adapt(tmp_path / "vae")
    assert isinstance(adapted.space, Latents)
    assert adapted.space.decoding == torch.bfloat16
