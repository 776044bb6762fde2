"""The decoder in bfloat16: how near it stays, what keeps float32, and what a recipe says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sfumato as sf
from helpers import pipelines
from sfumato.models import tiles
from sfumato.models.latents import Latents
from sfumato.models.loaders.decoders import decoding
from sfumato.models.tiles import begins, in_tiles

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


def test_tiles_of_a_flat_state_are_flat_and_seams_fade() -> None:
    def decode(state: torch.Tensor) -> torch.Tensor:
        return state[:, :3].repeat_interleave(4, -1).repeat_interleave(4, -2)

    state = torch.randn(1, 4, 40, 23, generator=torch.Generator().manual_seed(0))
    for tile in (8, 16, 39):
        assert torch.allclose(in_tiles(state, tile, 4, decode), decode(state), atol=1e-5)
    assert torch.equal(in_tiles(state, 40, 4, decode), decode(state))
    assert begins(40, 16) == [0, 12, 24]
    assert begins(16, 16) == [0]


def test_a_picture_beyond_half_of_the_memory_is_decoded_in_tiles_and_replayed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    model = sf.load(folder.name, dtype="float32")
    process = model.process("a cat", steps=1, size=(320, 64), solver="ddim")
    whole = process.sample(1)
    with monkeypatch.context() as small:
        small.setattr(tiles, "capacity", lambda device: 1 << 20)
        small.setattr(tiles, "TILE", 8)
        tiled = process.sample(1)
    assert "tile" not in whole.recipe.run
    assert tiled.recipe.run["tile"] == 8
    one, other = (
        torch.tensor(list(result.images[0].convert("RGB").tobytes())).float() / 127.5 - 1
        for result in (whole, tiled)
    )
    assert not torch.equal(one, other)
    assert decibels(other, one) > 20
    (path,) = tiled.save(tmp_path / "a.png")
    assert sf.run(path).images[0].tobytes() == tiled.images[0].tobytes()
