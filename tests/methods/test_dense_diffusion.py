"""DenseDiffusion: regions as they are written, what moves scores and by how much, exact no-ops."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import Tensor

import sfumato as sf
from helpers.clips import folder
from helpers.families import bundled, last
from helpers.pictures import photo
from helpers.program import FAST, call, fails, home
from helpers.taps import moment
from sfumato.core.errors import SfumatoError
from sfumato.core.taps import Site
from sfumato.methods.dense_diffusion import DenseDiffusion, Layout
from sfumato.methods.inner.regions import masks
from sfumato.models.replay import read_recipe

__all__ = ["folder", "home"]  # fixtures

APPLE = "red apple and blue heart, flat"
SIDES = ("red apple=0,0,0.5,1", "blue heart=0.5,0,1,1")


def process(**given: Any) -> Any:
    return bundled().process(APPLE, stages=1, **{"steps": 4, **given})


def layout() -> PILImage.Image:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, 8:] = (0, 0, 255)
    pixels[4:, :8] = (255, 0, 0)
    return PILImage.fromarray(pixels)


def test_a_region_is_a_text_an_object_or_in_a_file(tmp_path: Path) -> None:
    typed = DenseDiffusion(regions=("red apple=0,0,0.5,1", "sky=blue"), layout=layout())
    assert typed.regions[0].box == (0, 0, 0.5, 1)
    assert typed.regions[1].colour == "blue"
    listed = [{"words": "red apple", "box": [0, 0, 0.5, 1]}, {"words": "sky", "colour": "blue"}]
    assert DenseDiffusion(regions=listed, layout=layout()) == typed
    assert [str(region) for region in typed.regions] == ["red apple=0,0,0.5,1", "sky=blue"]
    for text, phrase in (
        ("apple", "must be WORDS=LEFT"), ("apple=0,0,x,1", "is no box"), ("a=0,0,2,1", "regions"),
        ("apple=0.5,0,0.5,1", "has no area"), ("apple=blu", "is no colour"), ("=0,0,1,1", "words"),
    ):  # fmt: skip
        with pytest.raises(SfumatoError, match=phrase):
            DenseDiffusion(regions=(text,), layout=layout())
    for entry, phrase in (
        ({"words": "a"}, "needs a box or a colour"),
        ({"words": "a", "box": [0, 0, 1, 1], "more": 1}, "more"),
        ({"words": "a", "box": [0, 0, 1]}, "box"),
    ):
        with pytest.raises(SfumatoError, match=phrase):
            sf.methods.from_data({"method": "dense_diffusion", "regions": [entry]})
    with pytest.raises(SfumatoError):  # documents have objects
        sf.methods.from_data({"method": "dense_diffusion", "regions": ["a=0,0,1,1"]})


def test_regions_lie_where_the_picture_is_worked_on() -> None:
    regions = DenseDiffusion(regions=("a=0,0,0.5,1", "b=red"), layout=layout())
    run = process().plan().run
    rows = masks("d", regions.regions, regions.layout, run)
    side = run.shape[-1]
    assert rows.shape == (2, side, side)
    assert rows[0, :, : side // 2].min() == 1
    assert rows[0, :, side // 2 :].max() == 0
    assert rows[1, side // 4 :, : side // 2].min() == 1
    assert rows[1].sum() == side**2 * 3 // 8
    whole = (process() | sf.SDEdit(photo(32, 20), t0=0.5)).plan().run
    rows = masks("d", DenseDiffusion(regions=("a=0,0.5,1,1",)).regions, None, whole)
    _left, top = whole.frame.offset
    height = whole.frame.scaled[1]
    assert rows[0, top + height // 2 :].min() == 1
    assert rows[0, : top + height // 2].max() == 0
    with pytest.raises(SfumatoError, match="needs layout"):
        masks("d", regions.regions, None, run)
    with pytest.raises(SfumatoError, match="give both the same shape"):
        masks("d", regions.regions, sf.images.ImageInput.of(layout().resize((32, 16))), run)
    with pytest.raises(SfumatoError, match="has no pixel"):
        masks("d", DenseDiffusion(regions=("a=0,0,0.005,1",)).regions, None, run)


def tap(**given: Any) -> Layout:
    """Two regions, left and right, of one word each among three columns."""
    places = torch.zeros(2, 4, 4)
    places[0, :, :2], places[1, :2, 2:] = 1, 1
    member = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    return Layout(DenseDiffusion(regions=("a=0,0,1,1",), **given), places, member)


def scores(keys: int) -> Tensor:
    return torch.randn(2, 3, 16, keys, generator=torch.Generator().manual_seed(1))


def test_scores_are_moved_as_published() -> None:
    s, t = scores(3), 0.8
    moved = tap().scores(s, Site("cross", 0, "", (4, 4), 3), moment(t))
    inside = tap().masks.flatten(1)
    lam = t**5
    for pixel in range(16):
        row, out = s[:, :, pixel], moved[:, :, pixel]
        if not inside[:, pixel].any():
            assert torch.equal(out, row)  # of no region: as it was
            continue
        for column, share in ((0, 0.5), (1, 0.25), (2, 0.0)):
            own = column < 2 and bool(inside[column, pixel])
            push = row.amax(-1) - row[..., column] if own else row.amin(-1) - row[..., column]
            assert torch.allclose(out[..., column], row[..., column] + lam * (1 - share) * push)


def test_pixels_are_drawn_to_their_own_region() -> None:
    s = scores(16)
    moved = tap().scores(s, Site("self", 0, "", (4, 4)), moment(1.0))
    same = tap().masks.flatten(1).mT @ tap().masks.flatten(1)
    top, low = s.amax(-1, keepdim=True), s.amin(-1, keepdim=True)
    share = 1 - same.mean(-1, keepdim=True)
    covered = same.amax(-1, keepdim=True)
    wanted = s + 0.3 * share * covered * torch.where(same > 0, top - s, low - s)
    assert torch.allclose(moved, wanted, atol=1e-6)


def test_nothing_leaves_the_range_of_its_row() -> None:
    for site, keys in (
        (Site("cross", 0, "", (4, 4), 3), 3), (Site("self", 0, "", (4, 4)), 16),
    ):  # fmt: skip
        s = scores(keys)
        moved = tap(pixels=1.0).scores(s, site, moment(1.0))
        assert bool((moved <= s.amax(-1, keepdim=True) + 1e-6).all())
        assert bool((moved >= s.amin(-1, keepdim=True) - 1e-6).all())
        early = (moved - s).abs().max()
        late = (tap(pixels=1.0).scores(s, site, moment(0.5)) - s).abs().max()
        assert float(late / early) == pytest.approx(0.5**5, rel=1e-4)


def test_under_one_softmax_words_and_pixels_have_their_own_rule() -> None:
    words, pixels = scores(3), scores(16)
    both = tap().scores(torch.cat([words, pixels], -1), Site("joint", 0, "", (4, 4), 3), moment())
    assert torch.equal(
        both[..., :3], tap().scores(words, Site("cross", 0, "", (4, 4), 3), moment())
    )
    assert torch.equal(both[..., 3:], tap().scores(pixels, Site("self", 0, "", (4, 4)), moment()))


@pytest.mark.parametrize(
    "given",
    [{"words": 0, "pixels": 0}, {"until": 0}, {"regions": ()}],
    ids=["no strength", "no time", "no region"],
)
def test_what_moves_nothing_changes_no_bit(given: dict[str, Any]) -> None:
    nothing = DenseDiffusion(**{"regions": SIDES, **given})
    assert torch.equal(last(process() | nothing), last(process()))


def test_it_acts_on_the_prompt_alone_and_in_its_time() -> None:
    made = process(n=2) | DenseDiffusion(regions=SIDES, until=0.5)
    x = last(made)
    assert not torch.allclose(x, last(process(n=2)), atol=1e-3)
    for row in range(2):  # each picture as if it were alone
        alone = last(process() | DenseDiffusion(regions=SIDES, until=0.5), seed=5 + row)
        assert torch.allclose(x[row], alone[0], atol=1e-4)
    mixture = made.begin(seed=1).steering.mixture
    ((own, branches),) = mixture.taps
    assert branches == {"positive"}
    run = made.begin(seed=1).run
    assert [own.active(run.call(i, 1 - i / 4, 0.75 - i / 4)) for i in range(4)] == [True] * 2 + [
        False
    ] * 2


def test_words_are_read_by_themselves() -> None:
    """The columns of a region's words are those of the words alone; `apart` off leaves them."""
    made = DenseDiffusion(regions=SIDES, words=0, pixels=1e-9, until=0.01)
    assert not torch.equal(last(process() | made), last(process()))
    told = replace(made, apart=False)
    assert torch.allclose(last(process() | told), last(process()), atol=1e-3)
    source = bundled()
    alone = source.denoiser.prepare(source.encode(["red apple"]))
    (term, *_) = (process() | made).begin().steering.mixture.terms
    spans = source.spans(process().prompt)
    column = next(k for k, span in enumerate(spans) if span is not None)
    first = next(k for k, span in enumerate(source.spans("red apple")) if span is not None)
    name = next(name for name in term.cond if name.startswith("text_k."))
    assert torch.equal(term.cond[name][0, :, column], alone[name][0, :, first])
    assert torch.equal(term.cond["text_emb"], source.denoiser.prepare(
        source.encode([process().prompt]))["text_emb"])  # fmt: skip


def test_with_prompt_to_prompt_each_picture_has_its_own_words() -> None:
    p2p = sf.PromptToPrompt(edited=("green apple and blue heart, flat",))
    regions = ("blue heart=0.5,0,1,1", "green apple=0,0,0.5,1")
    both = last(process() | p2p | DenseDiffusion(regions=regions))
    other = last(process() | DenseDiffusion(regions=regions) | p2p)
    assert torch.equal(both, other)
    with pytest.raises(SfumatoError, match="no 'dog' in"):
        (process() | DenseDiffusion(regions=("dog=0,0,1,1",))).plan()


def test_on_a_latent_model(folder: Path) -> None:
    model = sf.load(str(folder), dtype="float32")
    plain: Any = model.process("red cat on a mat", steps=2)
    dense = plain | DenseDiffusion(regions=("red cat=0,0,0.5,1", "mat=0,0.5,1,1"))
    assert not torch.allclose(last(dense), last(plain), atol=1e-4)
    nothing = plain | DenseDiffusion(regions=("mat=0,0,1,1",), words=0, pixels=0)
    assert torch.equal(last(nothing), last(plain))


def test_the_program_takes_regions_again_and_from_a_file(app: Any, tmp_path: Path) -> None:
    listed = [{"words": "red apple", "box": [0, 0, 0.5, 1]}]
    (tmp_path / "regions.json").write_text(json.dumps(listed))
    words = ["generate", APPLE, *FAST, "--dense-diffusion", "@regions.json"]
    words += ["--dense-diffusion", "blue heart=0.5,0,1,1", "-o", "a.png"]
    result = call(app, *words)
    assert result.exit_code == 0, result.output
    recipe = read_recipe("a.png")
    (entry,) = [data for data in recipe.methods if data["method"] == "dense_diffusion"]
    assert [region["words"] for region in entry["regions"]] == ["red apple", "blue heart"]
    again = sf.run(recipe).images[0]
    assert again.tobytes() == PILImage.open("a.png").convert("RGB").tobytes()
    said = fails(app, 1, "generate", APPLE, *FAST, "--dense-diffusion", "apple", "-o", "b.png")
    assert "must be WORDS=LEFT,TOP,RIGHT,BOTTOM" in said
