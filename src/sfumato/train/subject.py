"""A subject's pictures and its name: reading and fitting them, choosing a rare word.

Pictures keep their shape: each goes to the nearest of a few work sizes of the model's area
(buckets) and loses at its edges what that leaves over.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image as PILImage
from torch import Tensor

from sfumato import images
from sfumato.core.errors import SfumatoError
from sfumato.core.noise import keyed
from sfumato.images import Picture
from sfumato.images.decode import identify
from sfumato.images.folders import pictures_in

log = logging.getLogger("sfumato")

FEW, MANY = 3, 30
LEAST = 16  # pixels of a picture's shorter side


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture of the subject, upright and in sRGB; digest: of its file."""

    name: str
    picture: Picture
    digest: str


def shots(folder: Path) -> list[Shot]:
    """Every readable picture of a folder, by name. What cannot be read is said and left out."""
    if not folder.is_dir():
        raise SfumatoError(f"{folder}: not a folder; give the folder with the subject's pictures")
    found = []
    listed = pictures_in(folder, beside=(".txt",))
    if listed.note:
        log.warning("%s: %s", folder, listed.note)
    for file in listed.pictures:
        try:
            data = images.ImageInput.of(file)
            picture = data.picture()
        except SfumatoError as error:
            log.warning("%s; left out", error)
            continue
        if min(picture.size) < LEAST:
            log.warning("%s: is %dx%d, too small to learn from; left out", file.name, *picture.size)
            continue
        if getattr(identify(data.data, file.name), "is_animated", False):
            log.warning("%s: is several pictures; the first one is taken", file.name)
        found.append(Shot(file.name, picture, data.sha256))
    if not found:
        raise SfumatoError(f"{folder}: no picture there that can be read; 3 to 5 are best")
    if len(found) < FEW:
        log.warning(
            "%d picture%s of the subject: its pose and background will come back; 3 to 5 are best",
            len(found),
            "" if len(found) == 1 else "s",
        )
    if len(found) > MANY:
        log.warning("%d pictures: more than 5 seldom help; all are used", len(found))
    return found


def buckets(native: tuple[int, int], multiple: int) -> list[tuple[int, int]]:
    """Work sizes (width, height) of about the native area, sides multiples, up to 2 to 1."""
    area = native[0] * native[1]
    step = max(multiple, math.isqrt(area) // 8 // multiple * multiple)
    found = set()
    for width in range(step, 2 * max(native) + 1, step):
        height = round(area / width / step) * step
        if height and max(width, height) <= 2 * min(width, height):
            found |= {(width, height), (height, width)}
    return sorted(found | {native})


def fitted(shot: Shot, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """(3, H, W) in [-1, 1] at the work size nearest in shape, centre-cropped, never stretched."""
    width, height = shot.picture.size
    shape = math.log(width / height)
    target = min(sizes, key=lambda size: abs(math.log(size[0] / size[1]) - shape))
    scale = max(target[0] / width, target[1] / height)
    across, down = target[0] / scale, target[1] / scale
    left, top = (width - across) / 2, (height - down) / 2
    box = (left, top, left + across, top + down)
    way = PILImage.Resampling.BOX if scale < 1 else PILImage.Resampling.LANCZOS
    flat = images.flattened(shot.picture, "white")
    pixels = flat.resize(target, way, box=box)
    import numpy as np

    values = torch.from_numpy(np.asarray(pixels).astype(np.float32) / np.float32(127.5) - 1)
    return values.permute(2, 0, 1).contiguous()


NOUNS = (
    *("apple", "backpack", "bag", "ball", "banana", "bear", "bed", "bell", "bicycle", "bird"),
    *("boat", "book", "boot", "bottle", "bowl", "bread", "bus", "butterfly", "cake"),
    *("camera", "candle", "car", "castle", "cat", "chair", "clock", "coat", "computer"),
    *("cow", "crown", "cup", "dog", "doll", "dress", "drum", "duck", "egg", "elephant"),
    *("face", "fish", "flag", "flower", "fox", "frog", "glasses", "guitar", "hamburger"),
    *("hammer", "hand", "hat", "heart", "horse", "house", "key", "knife", "lamp", "leaf"),
    *("lion", "man", "monkey", "moon", "mouse", "mushroom", "octopus", "owl", "panda", "pen"),
    *("penguin", "phone", "pig", "pizza", "plant", "rabbit", "ring", "robot", "rocket"),
    *("rose", "sheep", "ship", "shirt", "shoe", "skateboard", "snake", "spoon", "star"),
    *("sunglasses", "table", "teapot", "tiger", "toy", "train", "tree", "turtle", "umbrella"),
    *("vase", "watch", "whale", "woman"),
)
"""What a subject may be, where nobody says it."""


def guessed(clip: Any, pictures: Sequence[Tensor], spoken: Callable[[str], str]) -> list[str]:
    """The three nouns whose texts a CLIP finds nearest to the pictures, the best first.

    pictures (3, H, W) in [-1, 1]; spoken: a noun as the model's captions say it.
    """
    side = (clip.size, clip.size)
    resize = torch.nn.functional.interpolate
    with torch.no_grad():
        seen = torch.cat([resize(x[None], side, mode="bilinear", antialias=True) for x in pictures])
        vectors = clip.image(seen, torch.zeros(len(seen), device=seen.device))
        found = (vectors @ clip.text([spoken(noun) for noun in NOUNS]).T).mean(0)
    return [NOUNS[k] for k in found.topk(3).indices.tolist()]


Tokens = Callable[[str], list[int]]
"""Token ids of a text, without what marks its ends."""


def pick_identifier(tokens: Tokens, vocabulary: Sequence[str], seed: int = 0) -> str:
    """A rare word that is one token: what a subject can be called (arXiv 2208.12242, section 3.2).

    vocabulary: words of 2 to 3 letters by falling frequency, as byte-pair vocabularies are ordered.
    One of the rarest fifth that stays one token in the middle of a sentence.
    """
    words = [word for word in vocabulary if re.fullmatch("[a-z]{2,3}", word)]
    around = len(tokens("a photo of a dog"))
    single = [word for word in words if len(tokens(f"a photo of a {word} dog")) == around + 1]
    rare = single[-max(len(single) // 5, 1) :]
    if not rare:
        raise SfumatoError("identifier: this tokenizer has no rare short word; give one by name")
    return Random(keyed(f"{seed}/identifier")).choice(rare)


def inspected(
    tokens: Tokens,
    name: str,
    vocabulary: Sequence[str] = (),
    spelled: Callable[[int], str] = str,
) -> list[int]:
    """The identifier's tokens; a bad one is warned of.

    vocabulary: the model's words by falling frequency, of which the first half are ordinary ones;
    spelled: what a token stands for.
    """
    if not name.strip():
        raise SfumatoError("identifier: is empty; give a rare short word")
    ids = tokens(f"a {name} dog")
    plain = tokens("a dog")
    pieces = ids[1 : len(ids) - len(plain) + 1]
    if len(pieces) > 3:
        log.warning(
            "identifier %r is %d tokens (%s), each with a meaning of its own that must be "
            "unlearned; take a rare word of one token",
            name,
            len(pieces),
            ", ".join(spelled(k) for k in pieces),
        )
    elif name.lower() == "sks":
        log.warning("identifier 'sks' is the name of a rifle, which shows; take another rare word")
    elif name.lower() in vocabulary[: len(vocabulary) // 2]:
        log.warning(
            "identifier %r is an ordinary word, whose meaning must be unlearned; take a rare one, "
            "or leave it to be chosen",
            name,
        )
    return pieces
