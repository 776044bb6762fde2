"""Prompt-to-Prompt: exact no-ops, what it does to attention, words and their columns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sfumato as sf
from helpers.families import FAMILIES, last, process, prompts
from helpers.taps import moment
from sfumato.cli.fields import assignments
from sfumato.core.errors import SfumatoError
from sfumato.core.taps import Site
from sfumato.methods.common.words import aligned, columns, factors
from sfumato.methods.prompt_to_prompt import AttentionControl, PromptToPrompt


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    return request.param, *prompts(request.param)


def test_equal_prompts_change_no_bit(model: tuple[str, str, str]) -> None:
    chosen, prompt, _ = model
    x = last(process(chosen, prompt) | PromptToPrompt(edited=(prompt,)))
    plain = last(replace(process(chosen, prompt, n=2), shared=True))
    assert torch.equal(x, plain)
    assert torch.equal(x[0], x[1])
    weighted = last(process(chosen, prompt) | PromptToPrompt(weights=f"{prompt.split()[0]}=1"))
    assert torch.equal(weighted, plain)


def test_without_its_windows_it_is_a_batch_of_prompts(model: tuple[str, str, str]) -> None:
    chosen, prompt, edited = model
    none = PromptToPrompt(edited=(edited,), cross=0, layout=0, pooled=0)
    x = last(process(chosen, prompt) | none)
    plain = replace(process(chosen, prompt, n=2), shared=True, prompts=(prompt, edited))
    assert torch.equal(x, last(plain))
    assert not torch.equal(x[0], x[1])


def test_the_first_picture_stays_and_the_edit_takes_its_attention(
    model: tuple[str, str, str],
) -> None:
    chosen, prompt, edited = model
    plain = last(replace(process(chosen, prompt, n=2), shared=True, prompts=(prompt, edited)))
    x = last(process(chosen, prompt) | PromptToPrompt(edited=(edited,), pooled=0))
    assert torch.allclose(x[0], plain[0], atol=1e-3)  # written out, so but for rounding
    assert not torch.allclose(x[1], plain[1], atol=1e-3)
    three = last(process(chosen, prompt) | PromptToPrompt(edited=(edited, prompt), pooled=0))
    assert torch.allclose(three[:2], x, atol=1e-3)
    assert torch.allclose(three[2], x[0], atol=1e-3)  # equal words, by way of the tap


def test_nothing_outside_of_what_is_blended(model: tuple[str, str, str]) -> None:
    chosen, prompt, edited = model
    word = edited.split()[0]
    nowhere = last(process(chosen, prompt) | PromptToPrompt(edited=(edited,), blend=word, seen=1))
    assert torch.equal(nowhere[0], nowhere[1])
    everywhere = PromptToPrompt(edited=(edited,), blend=word, seen=0)
    free = last(process(chosen, prompt) | PromptToPrompt(edited=(edited,)))
    assert torch.allclose(last(process(chosen, prompt) | everywhere), free, atol=1e-3)


def control(**given: Any) -> AttentionControl:
    """Of one edit with three columns: the second one new, the third one's attention doubled."""
    mapped = torch.tensor([[[1.0, 0, 0], [0, 0, 1], [0, 0, 0]]])
    own, strength = torch.tensor([[0.0, 1, 0]]), torch.tensor([[1.0, 1, 2]])
    fields = {"cross": 1.0, "layout": 1.0, "pooled": 0.0, **given}
    return AttentionControl(PromptToPrompt(**fields), mapped, own, strength, torch.zeros(2, 3))


def test_maps_under_one_softmax_keep_their_sum() -> None:
    p = torch.rand(2, 1, 4, 7, generator=torch.Generator().manual_seed(1)).softmax(-1)
    site = Site("joint", 0, "", (2, 2), 3)
    q = control().probs(p, site, moment())
    assert torch.equal(q[0], p[0])
    assert torch.allclose(q.sum(-1), torch.ones(()), atol=4e-7)
    assert torch.equal(q[1, ..., 0], p[0, ..., 0])
    assert torch.equal(q[1, ..., 1], p[1, ..., 1])
    assert torch.equal(q[1, ..., 2], 2 * p[0, ..., 1])
    shares = [m[..., 3:] / m[..., 3:].sum(-1, keepdim=True) for m in (q[1], p[0])]
    assert torch.allclose(*shares, atol=1e-6)


def test_attention_to_pixels_is_taken_over_on_small_maps_alone() -> None:
    p = torch.rand(2, 1, 4, 4).softmax(-1)
    small = control().probs(p, Site("self", 0, "", (2, 2)), moment())
    assert torch.allclose(small[1], p[0])
    assert not control().at(Site("self", 0, "", (32, 32)))
    assert control().at(Site("cross", 0, "", (32, 32)))
    words = torch.rand(2, 1, 4, 7).softmax(-1)
    large = control(cross=0.0).probs(words, Site("joint", 0, "", (32, 32), 3), moment())
    assert torch.allclose(large, words, atol=1e-6)


SPANS = {
    "a red cat": (None, (0, 1), (2, 5), (6, 9), None, None),
    "a red dog": (None, (0, 1), (2, 5), (6, 8), (8, 9), None),
    "a big red cat": (None, (0, 1), (2, 5), (6, 9), (10, 13), None),
}


def align(first: str, second: str) -> tuple[Tensor, Tensor]:
    return aligned((first, second), (SPANS[first], SPANS[second]))


def test_words_in_place_of_others_share_their_columns() -> None:
    mapped, own = align("a red cat", "a red dog")
    assert mapped[:, 1].tolist() == [0, 1, 0, 0, 0, 0]
    assert mapped[3].tolist() == [0, 0, 0, 0.5, 0.5, 0]
    assert own.tolist() == [0] * 6
    same, none = align("a red cat", "a red cat")
    assert torch.equal(same, torch.eye(6))
    assert none.sum() == 0


def test_added_words_keep_their_own() -> None:
    mapped, own = align("a red cat", "a big red cat")
    assert own.tolist() == [0, 0, 1, 0, 0, 0]
    assert mapped[2].tolist() == [0, 0, 0, 1, 0, 0]
    assert mapped[3].tolist() == [0, 0, 0, 0, 1, 0]


def test_what_cannot_be_is_said() -> None:
    assert columns("p", "a red cat", SPANS["a red cat"], "red") == [2]
    with pytest.raises(SfumatoError, match="no 'ca' in 'a red cat'"):
        columns("p", "a red cat", SPANS["a red cat"], "ca")
    assert factors("p", "red=2, big = 0.5") == [("red", 2.0), ("big", 0.5)]
    with pytest.raises(SfumatoError, match="write WORD=NUMBER"):
        factors("p", "red")
    with pytest.raises(SfumatoError, match="n = 5: it makes 2"):
        process("sd1", "red cat", n=5) | PromptToPrompt(edited=("red car",))
    with pytest.raises(SfumatoError, match="no 'dog'"):
        last(process("sd1", "red cat") | PromptToPrompt(edited=("red car",), blend="dog"))


def test_its_recipe_makes_it_again(tmp_path: Path) -> None:
    made = process("emoji", "red apple, 3d render") | PromptToPrompt(
        edited=("green apple, 3d render",), weights="green=2"
    )
    result = made.sample(seed=3)
    assert len(result.images) == 2
    again = sf.run(sf.Recipe.from_data(json.loads(result.recipe.to_json())))
    images = getattr(again, "images", [again])
    assert images[-1].tobytes() in {image.tobytes() for image in result.images}


def test_edited_prompts_may_be_given_again_beside_another_verb() -> None:
    field = "prompt_to_prompt.edited"
    for given, wanted in (
        ([f"{field}=green, apple"], ("green, apple",)),
        ([f"{field}=1", f"{field}=b"], ("1", "b")),
        ([f'{field}="a","b, c"'], ("a", "b, c")),
    ):
        assert assignments(given) == {"prompt_to_prompt": {"edited": wanted}}
    assert assignments(["cfg.window=0.2,1"]) == {"cfg": {"window": (0.2, 1)}}


def test_it_acts_on_the_guided_prompt_alone_and_with_others() -> None:
    """The null text's rows, an SDEdit's start, masks and references are as without it."""
    edit = PromptToPrompt(edited=("red car",))
    made = process("sd1") | sf.CFG(4)
    one, other = made | edit, process("sd1") | edit | sf.CFG(4)
    assert torch.equal(last(one), last(other))
    names = {b.name for b in one.resolved().aways}
    assert "away" in names
    loop = one.begin(seed=1)
    assert loop.run.taps[0].on == ("positive",)
    guide = torch.zeros(4, 8, 8)
    start = made | sf.SDEdit(guide, t0=0.6)
    equal = last(start | PromptToPrompt(edited=("red cat",)))
    assert torch.equal(equal[0], equal[1])
    assert torch.allclose(equal[0], last(start)[0], atol=1e-3)
