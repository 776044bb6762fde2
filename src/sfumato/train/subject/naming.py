"""A subject's name: what it is, by a CLIP, and the rare word that it is called by."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.core.noise import keyed
from sfumato.models.model import Model
from sfumato.train.subject.vocabulary import Tokens, tokens_of, vocabulary_of

log = logging.getLogger("sfumato")

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
        batch = torch.cat(
            [resize(x[None], side, mode="bilinear", antialias=True) for x in pictures]
        )
        vectors = clip.image(batch, torch.zeros(len(batch), device=batch.device))
        likeness = (vectors @ clip.text([spoken(noun) for noun in NOUNS]).T).mean(0)
    return [NOUNS[k] for k in likeness.topk(3).indices.tolist()]


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


def identifier_of(model: Model, seed: int) -> str:
    """A rare word of the model's tokenizer, the same whenever the run is started again."""
    return pick_identifier(tokens_of(model), vocabulary_of(model), seed)


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
