"""What networks read beside text, or in its place: references, vectors of what pictures show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato import images
from sfumato.compat.asked import Asked, vectors
from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import Range, whole
from sfumato.images import ImageInput
from sfumato.models.model import Model


@dataclass(frozen=True, eq=False)
class Beside:
    """What conditions have besides texts: of the prompt, and of what guides away from it."""

    prompt: Cond
    away: Cond

    def of(self, cond: Cond, away: bool) -> Cond:
        """A condition with its part; as many rows as either has."""
        both = {**cond, **(self.away if away else self.prompt)}
        rows = max((len(value) for value in both.values()), default=1)
        return Cond({name: value.expand(rows, *value.shape[1:]) for name, value in both.items()})


def beside(asked: Asked, model: Model) -> Beside:
    """Of a call; what it draws, it draws before everything else."""
    if asked.family.reads == "vectors":
        prompt, away = (
            _rows(asked, vectors(asked.given[name], name), name)
            for name in ("image_embeds", "negative_image_embeds")
        )
        return Beside(Cond({"shown": prompt}), Cond({"shown": away}))
    if asked.family.reads == "shown":
        prompt = _shown(asked, model)
        return Beside(Cond({"shown": prompt}), Cond({"shown": torch.zeros_like(prompt)}))
    states = [model.space.encode(one.to(model.choice.device)) for one in asked.pictures.beside]
    names = ("reference", *(f"reference {k + 1:02d}" for k in range(1, len(states))))
    references = Cond(
        {
            name: state.repeat(asked.n // len(state), 1, 1, 1)
            for name, state in zip(names, states, strict=False)
        }
    )
    return Beside(references, references)


def _rows(asked: Asked, rows: Tensor, name: str) -> Tensor:
    """A vector a picture, of one a row."""
    each = asked.given["num_images_per_prompt"]
    if len(rows) * each != asked.n:
        raise SfumatoError(f"{name}: {len(rows)} rows for {asked.n // each} of image_embeds")
    return rows.repeat_interleave(each, dim=0).to(asked.model.choice.device)


def _shown(asked: Asked, model: Model) -> Tensor:
    """Stable unCLIP's vectors of pictures, noised as its pipeline does it."""
    from diffusers.utils.torch_utils import randn_tensor

    reader = model.shown(None)
    image: Any = asked.given["image"]
    listed = image if isinstance(image, list) else [image]
    squares = torch.stack([images.to_square(_picture(one), reader.size, "white") for one in listed])
    with torch.no_grad():
        seen = reader.encoder.look(squares.to(model.choice.device))
    level = whole(asked.given["noise_level"], "noise_level", Range(0, reader.levels - 1))
    noise = randn_tensor(seen.shape, generator=asked.generator, device=seen.device)
    told = reader.noised(seen, level, noise)
    if asked.n % len(told):
        raise SfumatoError(f"image: {len(told)} pictures for {asked.n} results; give one a prompt")
    return told.repeat_interleave(asked.n // len(told), dim=0)


def _picture(value: Any) -> Any:
    try:
        return ImageInput.of(value).picture()
    except SfumatoError:
        raise SfumatoError(
            f"image = {value!r:.60}: give a PIL picture, or a list of them"
        ) from None
