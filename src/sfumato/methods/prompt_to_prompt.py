"""Prompt-to-Prompt (arXiv 2208.01626): the same picture from an edited prompt.

The first picture is drawn from the process's own prompt, one more from each edited prompt, all from
the same noise. While they are drawn, words that both prompts have look where the first picture's
look, M* = M_source mapped, and pixels attend to pixels as the first picture's do. Under a joint
softmax (GLIDE, the bundled model) text columns are replaced, and the rest of each row is scaled so
that it sums to 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from sfumato.core.context import Call, Run
from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.lazy import torch
from sfumato.core.taps import ATTENTIONS, Site, Tap
from sfumato.methods import Method, knob, method
from sfumato.methods.common.kinds import Text
from sfumato.methods.common.words import aligned, columns, factors, holds, spans_of
from sfumato.methods.inner.local_blend import LocalBlend, look

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process

SMALL = 16 * 16  # pixels of the largest map whose attention to pixels is taken over
POOLED = ("text_emb", "pooled")  # vectors of the whole prompt: of our networks, of SDXL


@method
class PromptToPrompt(Method):
    """Words in common keep their place, words in place of others take theirs."""

    verb: ClassVar[bool] = True
    slot: ClassVar[str | None] = "prompt_to_prompt"
    couples: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        '-p "red apple" --edited "blue apple"',
        '-p "red apple on grass" --weights "grass=0.3"',
    )

    edited: Annotated[
        tuple[Text, ...], knob("an edited prompt, may be given again; none: the prompt", main=True)
    ] = ()
    cross: Annotated[float, knob("part of the run where words look as before", ge=0, le=1)] = 0.8
    layout: Annotated[float, knob("part where pixels attend as before", ge=0, le=1)] = 0.4
    pooled: Annotated[float, knob("part with the first's whole-prompt vector", ge=0, le=1)] = 0.05
    weights: Annotated[Text, knob("words and factors of their attention: red=2, flat=0.5")] = ""
    blend: Annotated[
        Text, knob("words outside of which all stays as it was, such as apple; none: everywhere")
    ] = ""
    seen: Annotated[float, knob("of blend: least part of the most looked at", ge=0, le=1)] = 0.3

    def __call__(self, process: Process) -> Process:
        if process.source is None:
            raise SfumatoError("prompt_to_prompt: needs a model that reads text")
        edited = tuple(process.source.phrase(text) for text in self.edited) or (process.prompt,)
        n = 1 + len(edited)
        if process.n not in (1, n):
            raise SfumatoError(f"prompt_to_prompt: n = {process.n}: it makes {n}; leave n out")
        process = replace(process, n=n, prompts=(process.prompt, *edited), shared=True)
        return process.add(taps=(self,), guides=(self,) if self.blend else ())

    def bind_tap(self, run: Run) -> Tap:
        first, *edited = run.process.prompts
        beside, source = run.process.texts, run.source
        spans = [spans_of(self.id, source, text, beside) for text in (first, *edited)]
        strength = torch.ones(len(edited), len(spans[0]))
        for word, factor in factors(self.id, self.weights):
            for row, text in enumerate(edited):
                strength[row, columns(self.id, text, spans[1 + row], word)] = factor
        words = torch.zeros(1 + len(edited), len(spans[0]))
        for word in self.blend.split():
            texts = [(row, text) for row, text in enumerate((first, *edited)) if holds(text, word)]
            for row, text in texts or [(0, first)]:
                words[row, columns(self.id, text, spans[row], word)] = 1
        if all(text == first for text in edited) and bool((strength == 1).all()):
            return Tap()  # nothing differs
        pairs = [aligned((first, text), (spans[0], own))
                 for text, own in zip(edited, spans[1:], strict=True)]  # fmt: skip
        mapped, own = (torch.stack(part) for part in zip(*pairs, strict=True))
        names = [b.name for b in run.process.positives if b.cond is None] or ["positive"]
        mapped, own, strength, words = (v.to(run.device) for v in (mapped, own, strength, words))
        return AttentionControl(self, mapped, own, strength, words, tuple(names))

    def bind_guide(self, run: Run) -> Guide:
        return LocalBlend(self.seen, self.id)


@dataclass(eq=False)
class AttentionControl(Tap):
    """Of k edited prompts: mapped (k, K, K), own and strength (k, K), words (1 + k, K) of blend."""

    method: PromptToPrompt
    mapped: Tensor
    own: Tensor
    strength: Tensor
    words: Tensor
    on: Any = ("positive",)

    couples = True
    name = "prompt_to_prompt"

    def active(self, call: Call) -> bool:
        m, done = self.method, call.i / call.transitions
        return bool(m.blend) or done < max(m.cross, m.layout, m.pooled)

    def at(self, site: Site) -> bool:
        """Larger maps of pixels alone would cost their square, and stay as they are."""
        return site.kind in ATTENTIONS and (site.kind != "self" or _small(site))

    def prepared(self, cond: Cond, call: Call) -> Cond:
        if call.i / call.transitions >= self.method.pooled:
            return cond
        return Cond({k: v[:1].expand_as(v) if k in POOLED else v for k, v in cond.items()})

    def probs(self, p: Tensor, site: Site, call: Call) -> Tensor:
        """p (1 + k, heads, pixels, keys), the source first."""
        m, done = self.method, call.i / call.transitions
        text, pixels = p[..., : site.text], p[..., site.text :]
        words, rest = text[1:], pixels[1:]
        if site.text and done < m.cross:
            own = self.own[:, None, None]
            words = own * words + (1 - own) * (text[:1] @ self.mapped[:, None])
            words = words * self.strength[:, None, None]
        if pixels.shape[-1] and _small(site) and done < m.layout:
            rest = pixels[:1] * (rest.sum(-1, keepdim=True) / _positive(pixels[:1]))
        if site.kind == "joint":
            words = words / words.sum(-1, keepdim=True).clamp_min(1)
            rest = rest * ((1 - words.sum(-1, keepdim=True)) / _positive(rest))
        p = torch.cat([p[:1], torch.cat([words, rest.expand(len(words), -1, -1, -1)], dim=-1)])
        if m.blend and site.text and call.eval == 0:
            look(self.name, p, self.words, site, call)
        return p


def _small(site: Site) -> bool:
    return site.size[0] * site.size[1] <= SMALL


def _positive(p: Tensor) -> Tensor:
    return p.sum(-1, keepdim=True).clamp_min(1e-12)
