"""Pictures of a run side by side, with texts beside them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F


def tiled(rows: Sequence[Tensor], least: int = 64, labels: Sequence[str] = ()) -> Image.Image:
    """Rows of pictures (B, 3, S, S) in [-1, 1] side by side, enlarged to `least` pixels each.

    labels: a text beside each row, which may have several lines.
    """
    zoom = max(1, least // rows[0].shape[-1])
    lines = [F.interpolate(row.float().cpu(), scale_factor=zoom) for row in rows]
    width = max(len(line) for line in lines)
    padded = [F.pad(line, (0, 0, 0, 0, 0, 0, 0, width - len(line)), value=1.0) for line in lines]
    whole = torch.cat([torch.cat(list(line), dim=2) for line in padded], dim=1)
    pixels = ((whole + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0)
    picture = Image.fromarray(pixels.numpy())
    return labelled(picture, labels) if labels else picture


def listed(pictures: Tensor, texts: Sequence[str]) -> Image.Image:
    """Pictures (B, 3, S, S) in a column, a line of text beside each."""
    return tiled([picture[None] for picture in pictures], labels=texts)


def labelled(picture: Image.Image, texts: Sequence[str]) -> Image.Image:
    """A picture of equally high rows with a text beside each."""
    font = ImageFont.load_default(13)
    beside = max(font.getlength(line) for text in texts for line in text.splitlines() or [""])
    sheet = Image.new("RGB", (picture.width + round(beside) + 20, picture.height), "white")
    sheet.paste(picture, (0, 0))
    draw, step = ImageDraw.Draw(sheet), picture.height / len(texts)
    for k, text in enumerate(texts):
        place = (picture.width + 8, (k + 0.5) * step)
        draw.text(place, text, fill="black", font=font, anchor="lm")
    return sheet
