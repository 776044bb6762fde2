"""How good a model of the packed set's words is: accuracy, distance, agreement, held-out loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.core.noise import keyed
from sfumato.measure import heldout
from sfumato.measure.features import Features
from sfumato.methods.cfg import CFG
from sfumato.metrics import kernel
from sfumato.metrics.kernel import Estimate
from sfumato.models.model import Model
from sfumato.train.data import store
from sfumato.train.data.store import STYLES
from sfumato.train.objective import Objective

ROWS = 50
LEVELS = (0.125, 0.375, 0.625, 0.875)


@dataclass(frozen=True)
class Answers:
    """What a model made of the questions in one style at one guidance scale.

    top1, top5: share of pictures whose class the judge names first, or among its first five; real1,
    real5: the same for real pictures, the judge's ceiling. kernel: distance of the judge's
    features, scaled to unit spread, to those of real pictures of the same prompts; clip: mean
    100 cos(picture, prompt), None without a CLIP; own: kernel distance of a user's own features.
    """

    style: str
    scale: float | None
    top1: Estimate
    top5: Estimate
    real1: Estimate
    real5: Estimate
    kernel: Estimate
    clip: Estimate | None
    own: Estimate | None = None


@dataclass(frozen=True, eq=False)
class Own:
    """A user's features, and where the real pictures are to compare with.

    data: the packed set, whose pictures of the same prompts and style are taken; None: the packaged
    held-out pictures, of other prompts, so that settings compare, and values are larger.
    """

    features: Features
    data: Path | None = None

    def distance(
        self, generated: Tensor, asked: Sequence[heldout.Question], style: str
    ) -> Estimate:
        """Kernel distance of generated pictures (N, 3, h, w) to the real ones."""
        name, side = heldout.JUDGED[style], generated.shape[-1]
        if self.data is None:
            real = on_white(heldout.pictures(name, min(side, 64)).pixels)
            return kernel.kernel_estimate(self.features(generated), self.features(real))
        packed = store.read(self.data, size=side, styles=[name])
        rows = packed.index()
        if missing := [q.label for q in asked if (q.key, name) not in rows]:
            raise SfumatoError(f"data {self.data}: has no {name} picture of {missing[0]!r}")
        real = on_white(packed.pixels[[rows[q.key, name] for q in asked]])
        return kernel.kernel_estimate(self.features(generated), self.features(real), paired=True)


def on_white(pixels: Tensor) -> Tensor:
    """A store's pictures (N, 4, S, S) as (N, 3, S, S) in [-1, 1] on white."""
    x0 = pixels.float() / 255
    return (x0[:, :3] + 1 - x0[:, 3:]) * 2 - 1


def sampled(
    model: Model,
    texts: Sequence[str],
    *,
    scale: float | None = None,
    seed: int = 0,
    steps: int | None = None,
    solver: str | None = None,
) -> Tensor:
    """One base picture for each prompt, (N, 3, h, w) in [-1, 1]; picture k has seed + k."""
    pictures = []
    for k in range(0, len(texts), ROWS):
        part = list(texts[k : k + ROWS])
        process: Any = model.process(stages=1, n=len(part), steps=steps, solver=solver)
        process = replace(process, cond=model.encode(part), null=model.encode([""]))
        if scale is not None:
            process = process | CFG(scale)
        result = process.sample(seed + k)
        pictures += [pixels(picture) for picture in result.images]
    return torch.stack(pictures)


def pixels(picture: Any) -> Tensor:
    """A picture as (3, H, W) in [-1, 1]."""
    import numpy as np

    array = np.asarray(picture.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(array).permute(2, 0, 1) / 127.5 - 1


def answers(
    model: Model,
    style: str,
    *,
    n: int = 200,
    scale: float | None = None,
    seed: int = 0,
    own: Own | None = None,
    seen: Callable[[Tensor], None] = lambda pictures: None,
) -> Answers:
    """Ask the first n questions in a style, beyond the last one all again with further seeds.

    Intervals are over questions, each by the mean of its pictures. seen: told the pictures
    (N, 3, h, w) in [-1, 1].
    """
    bench = heldout.bench(style)
    asked = heldout.asked(n)
    texts = [f"{question.label}, {style}" for question in asked] * (n // len(asked))
    pictures = sampled(model, texts, scale=scale, seed=seed)
    seen(pictures)
    features, logits = bench.look(pictures)
    hits = bench.shares(logits, len(asked))
    clip = clip_score(model, pictures, texts)
    real = bench.right[: len(asked)]
    return Answers(
        style=style,
        scale=scale,
        top1=kernel.mean(hits[:, 0]),
        top5=kernel.mean(hits[:, 1]),
        real1=kernel.mean(real[:, 0]),
        real5=kernel.mean(real[:, 1]),
        kernel=kernel.kernel_estimate(
            features / bench.spread, bench.features[: len(asked)] / bench.spread, paired=True
        ),
        clip=None if clip is None else kernel.mean(clip.view(-1, len(asked)).mean(0)),
        own=None if own is None else own.distance(pictures, asked, style),
    )


def clip_score(model: Model, pictures: Tensor, texts: Sequence[str]) -> Tensor | None:
    """100 cos of each picture and its prompt, (N,), by the model's own CLIP at its cleanest level.

    It is trained on the same pictures as the model: it compares settings of one model, and says
    little about models of other data.
    """
    clip = model.clip()
    if clip is None:
        return None
    side = clip.size
    if pictures.shape[-1] != side:
        pictures = F.interpolate(pictures, (side, side), mode="area")
    with torch.no_grad():
        image = clip.image(pictures, torch.zeros(len(pictures)))
        cosines: Tensor = (image * clip.text(list(texts))).sum(1)
    return 100 * cosines


def denoising(model: Model, styles: Sequence[str] = ("fluent", "flat", "ink")) -> dict[str, Any]:
    """MSE on the base's target at four levels, on held-out pictures with and without caption.

    One noise seed, the mean over all pictures with its interval; "gain" is caption minus none.
    """
    side = model.card.native[0]
    stores = [heldout.pictures(style, side) for style in styles]
    x0 = on_white(torch.cat([s.pixels for s in stores]))
    texts = [
        f"{concept.label}, {STYLES[style][0]}"
        for s in stores
        for concept, style in zip(s.concepts, s.styles, strict=True)
    ]
    generator = torch.Generator().manual_seed(keyed("denoising"))
    noise = torch.randn(x0.shape, generator=generator)
    losses: dict[str, Any] = {}
    for t in LEVELS:
        with_caption = _errors(model, x0, noise, texts, t)
        without = _errors(model, x0, noise, [""] * len(texts), t)
        losses[f"{t:g}"] = {
            "caption": kernel.mean(with_caption),
            "none": kernel.mean(without),
            "gain": kernel.mean(with_caption - without),
        }
    return losses


def _errors(model: Model, x0: Tensor, noise: Tensor, texts: Sequence[str], t: float) -> Tensor:
    errors = []
    device = model.choice.device
    for k in range(0, len(x0), ROWS):
        part = slice(k, k + ROWS)
        cond: Cond = model.encode(texts[part])
        clean, drawn = x0[part].to(device), noise[part].to(device)
        with torch.no_grad():
            times = [t] * len(clean)
            errors.append(Objective().at(model.denoiser, clean, cond, drawn, times).mse.cpu())
    return torch.cat(errors)


def evaluate(
    model: Model,
    *,
    styles: Sequence[str] = (heldout.STYLE,),
    scales: Sequence[float | None] = (None,),
    n: int = 200,
    seed: int = 0,
    own: Own | None = None,
    say: Callable[[str], None] = lambda line: None,
    answered: Callable[[Answers], None] = lambda answers: None,
    seen: Callable[[Tensor], None] = lambda pictures: None,
) -> dict[str, Any]:
    """All measures as plain data: {"answers": [...], "denoising": {...}}.

    answered: told each row; seen: the pictures before it.
    """
    rows = []
    for style in styles:
        for scale in scales:
            of_style = answers(model, style, n=n, scale=scale, seed=seed, own=own, seen=seen)
            say(line(of_style))
            answered(of_style)
            rows.append(asdict(of_style))
    losses = denoising(model)
    for text in loss_lines(losses):
        say(text)
    plain: Mapping[str, Any] = {
        t: {name: asdict(value) for name, value in parts.items()} for t, parts in losses.items()
    }
    return {"model": model.name, "weights": model.weights, "answers": rows, "denoising": plain}


def loss_lines(losses: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    """Lines for people, one a level."""
    return [
        f"held-out loss at t {t}: caption {parts['caption']}, none {parts['none']}"
        for t, parts in losses.items()
    ]


def line(answers: Answers) -> str:
    """One line for people."""
    scale = "card's" if answers.scale is None else f"{answers.scale:g}"
    clip = "" if answers.clip is None else f", CLIP {answers.clip}"
    own = "" if answers.own is None else f", by your features {answers.own}"
    part = answers.top1.value / max(answers.real1.value, 1e-9)
    return (
        f"{answers.style}, guidance {scale}: top-1 {answers.top1}, {part:.0%} of the judge's "
        f"{answers.real1.value:.3g}; top-5 {answers.top5} of {answers.real5.value:.3g}; "
        f"kernel distance {answers.kernel}{clip}{own}"
    )
