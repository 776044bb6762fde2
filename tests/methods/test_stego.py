"""Diffusion-Stego: bits as noise and back, the format of a message, and what is not said of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

import sfumato as sf
from helpers.clips import folder
from helpers.families import bundled
from helpers.pictures import photo
from helpers.program import call, fails, home
from sfumato.core.denoiser import Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import named
from sfumato.methods.inner.payload import Payload
from sfumato.methods.inner.projection import Projection
from sfumato.models.replay import read_recipe

__all__ = ["folder", "home"]  # fixtures

BLUE = "red apple, 3d render, blue background"
KINDS: list[tuple[Literal["mn", "mb", "mc"], int]] = [
    ("mn", 1), ("mc", 1), ("mb", 1), ("mb", 2), ("mb", 3), ("mb", 4),
]  # fmt: skip


def drawn(places: int) -> Tensor:
    return torch.randint(2, (places,), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("kind", "bits"), KINDS)
def test_bits_become_noise_and_come_back(kind: Any, bits: int) -> None:
    noise = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    projection = Projection(kind, bits)
    sent = drawn(3 * 64 * 64 * bits)
    state = projection.hide(sent, noise)
    assert state.shape == noise.shape
    assert float(state.mean()) == pytest.approx(0, abs=0.02)
    assert float(state.var()) == pytest.approx(1, abs=0.03)
    for row in projection.values(state + 0.01 * noise):
        assert torch.equal((row > 0).long(), sent)


def test_how_normal_each_looks() -> None:
    """Fourth moments: 3 of normal noise and of mn, 2 of mc, 1 of mb, 1.64 of its four levels."""
    noise = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    for (kind, bits), moment in zip(KINDS[:4], (3, 2, 1, 1.64), strict=True):
        state = Projection(kind, bits).hide(drawn(3 * 64 * 64 * bits), noise)
        assert float(state.pow(4).mean()) == pytest.approx(moment, abs=0.12)
    assert torch.equal(
        Projection("mn").hide(drawn(3 * 64 * 64), noise).abs(), noise.abs()
    )  # but for the signs the very noise


def test_levels_are_equally_spaced_and_neighbours_differ_in_one_bit() -> None:
    for bits in (1, 2, 3):
        levels, labels = Projection("mb", bits).levels.sort()
        gaps = levels.diff()
        assert torch.allclose(gaps, torch.full_like(gaps, (12 / (4**bits - 1)) ** 0.5))
        assert all(bin(int(a) ^ int(b)).count("1") == 1 for a, b in labels.unfold(0, 2, 1))


@pytest.mark.parametrize("text", ["", "a", "at noon, by the elm", "눈이 온다 ❄", "x" * 300])
def test_a_text_is_read_from_what_is_left_of_its_bits(text: str) -> None:
    payload = Payload(3 * 32 * 32, "elm")
    bits = payload.write(text, "stego")
    values = 2.0 * bits - 1
    assert payload.read(values) == text
    noise = torch.randn(len(values), generator=torch.Generator().manual_seed(2))
    if len(text) < 30:  # eight copies and more of every bit
        assert payload.read(values + 1.2 * noise) == text
    assert Payload(3 * 32 * 32, "oak").read(values) is None
    assert payload.read(noise) is None


def test_the_format_stays() -> None:
    """What was hidden by an earlier version is still read."""
    bits = Payload(512, "elm").write("noon", "stego")
    packed = bytes(int("".join(map(str, row)), 2) for row in bits.view(-1, 8).tolist())
    assert packed.hex()[:32] == FORMAT


FORMAT = "38933fb500c30c685c62734af6ff3ab9"


def test_what_is_too_long_is_refused() -> None:
    payload = Payload(3 * 32 * 32)
    room = payload.room
    assert payload.read(2.0 * payload.write("x" * room, "stego") - 1) == "x" * room
    with pytest.raises(SfumatoError, match=f"{room + 1} bytes, and this picture has room for"):
        payload.write("x" * (room + 1), "stego")
    with pytest.raises(SfumatoError, match="has room for 0"):
        Payload(64).write("", "stego")


def process(**given: Any) -> Any:
    return bundled().process(BLUE, stages=1, **{"steps": 12, **given})


def test_a_message_survives_8_bits() -> None:
    result = (process() | sf.Stego(message="at noon", key="elm")).sample(seed=2)
    assert result.answers["readable"] == [True]
    assert result.answers["right"][0] > 0.7
    read = process() | sf.Stego(reveal=result.images[0], key="elm")
    again = read.sample()
    assert again.answers == {"message": "at noon"}
    assert again.images[0].tobytes() == result.images[0].tobytes()
    assert list(again.calls) == [read.calls] == [12]
    other = process() | sf.Stego(reveal=result.images[0], key="oak")
    with pytest.raises(SfumatoError, match="no message found in"):
        other.sample()


def test_a_cascade_stops_before_its_upsamplers() -> None:
    cascade: Any = bundled().process(BLUE, steps=2)
    made = cascade | sf.Stego(message="x")
    assert made.calls == [4]  # two up, two to check
    assert made.sample().images[0].size == bundled().card.native
    unchecked = cascade | sf.Stego(message="x", check=False)
    assert unchecked.calls == [2]
    assert unchecked.sample().answers == {}


def test_what_a_picture_shows_is_the_seeds_but_for_mb() -> None:
    def made(projection: Any, seed: int) -> Tensor:
        run = process(steps=2) | sf.Stego(message="x", projection=projection, check=False)
        with torch.no_grad():
            *_, last = run.steps(seed=seed)
        x: Tensor = last.x
        return x

    assert not torch.equal(made("mn", 1), made("mn", 2))
    assert torch.equal(made("mb", 1), made("mb", 2))


def test_neither_message_nor_key_is_recorded() -> None:
    secret = {"message": "meet at noon", "key": "elm tree"}
    made = process(steps=2) | sf.Stego(**secret)
    recipe = made.sample(seed=4).recipe
    for text in secret.values():
        assert text not in recipe.to_json() + repr(made)
    with pytest.raises(SfumatoError, match="the recipe holds a digest of it alone"):
        sf.run(recipe)


def test_the_same_secrets_make_the_same_picture(tmp_path: Path) -> None:
    made = process(steps=2) | sf.Stego(message="at noon", key="elm")
    result = made.sample(seed=4)
    recipe = sf.Recipe.from_data(json.loads(result.recipe.to_json()))
    from sfumato.models.replay import compose

    again: Any = compose(recipe, bundled(), [tmp_path])
    again = again.revised("stego", message="at noon", key="elm")
    assert again.sample(seed=4).images[0].tobytes() == result.images[0].tobytes()


def test_the_program_hides_and_reads(app: Any) -> None:
    words = ["stego", "--message", "at noon", "--key", "elm", "-p", BLUE, "--steps", "12"]
    result = call(app, *words, "-o", "a.png")
    assert result.exit_code == 0, result.output
    assert "readable: [true]" in result.stdout
    assert "at noon" not in read_recipe("a.png").to_json()
    read = ["stego", "--reveal", "a.png", "--recipe", "a.png", "-o", "b.png"]
    result = call(app, *read, "--key", "elm")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "message: at noon"
    assert "no message found in a.png" in fails(app, 1, *read, "--key", "oak")
    assert "digest" in fails(app, 1, *read)  # the recipe knows that there is a key
    (_,) = [data for data in read_recipe("b.png").methods if data["method"] == "stego"]


def test_what_cannot_be_is_said() -> None:
    side = -(-36 // bundled().multiple) * bundled().multiple
    for made, phrase in (
        (lambda: process() | sf.Stego(), "nothing to hide or read; give message, or reveal"),
        (lambda: (process(solver="ddpm") | sf.Stego(message="x")).plan(), "ddpm draws noise"),
        (lambda: process() | sf.Stego(message="x") | sf.SDEdit(photo()), "has stego as its start"),
        (
            lambda: (process(size=36) | sf.Stego(message="x")).plan(),
            f"made at {side}x{side} and would then be resized, which blurs the message; give size "
            f"{side}x{side}",
        ),
        (
            lambda: (process(steps=None, spacing=(1.0, 0.5, 0.0)) | sf.Stego(message="x")).plan(),
            "takes steps and a spacing by name",
        ),
        (
            lambda: (process() | sf.Stego(reveal=photo(33, 32))).plan(),
            "is 33x32; this model makes sides that are multiples",
        ),
        (lambda: sf.Stego(message="x", reveal=photo()), "message does nothing beside reveal"),
        (lambda: sf.Stego(message="x", bits=2), "bits does nothing without projection=mb"),
    ):
        with pytest.raises(SfumatoError, match=phrase):
            made()


def test_on_latents_and_without_a_model(folder: Path) -> None:
    """What a random autoencoder loses is said; an analytic denoiser loses nothing."""
    model = sf.load(str(folder), dtype="float32")
    for given in ({}, {"spacing": "model"}):
        made: Any = model.process("red cat", n=2, steps=2, **given) | sf.Stego(message="x")
        result = made.sample()
        assert len(result.answers["right"]) == 2
        assert list(result.calls) == [made.calls]

    schedule = named("squaredcos_cap_v2")

    def network(x: Tensor, time: Tensor, cond: Any) -> Tensor:
        t = (float(time[0]) + 1) / schedule.steps
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return x * 0.25 * alpha / (0.25 * alpha**2 + sigma**2)

    plain = sf.Process(Denoiser(network, schedule, kind="x0"), (3, 32, 32), n_steps=20, n=2)
    for kind, bits in KINDS[:4]:
        loop = (plain | sf.Stego(message="at noon", projection=kind, bits=bits)).begin(seed=1)
        with torch.no_grad():
            x = loop.walk()
            assert x is not None
            loop.run.decode(x)
        assert min(loop.run.answers["right"]) > (0.97 if kind == "mn" else 0.999)
        assert loop.run.answers["readable"] == [True, True]


@pytest.mark.parametrize("solver", ["ddim", "dpmpp-2m", "heun", "iplms"])
def test_guidance_and_an_adapter_are_walked_back_too(solver: str) -> None:
    made = process(solver=solver, steps=10) | sf.CFG(1.5) | sf.Stego(message="noon", key="elm")
    result = made.sample(seed=1)
    assert list(result.calls) == [made.calls]
    assert result.answers["right"][0] > 0.6
