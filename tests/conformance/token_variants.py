"""Variants of the tokenizers' case: byte-pair encodings written anew, over the released files."""

from __future__ import annotations

import gzip
import html
import itertools
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import regex

from conformance.tokens import digest

GPT2 = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
CLIP = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
REPAIRED = {
    "The artist’s “café”": 'the artist\'s "café"',
    "ﬁne ﬂower, Ｆｕｌｌ width": "fine flower, full width",
    "\ufeffa\x00 bell\x07 and \x1b[31mred\x1b[0m": "a bell and red",
    "nai\u0308ve &amp;lt;b&gt;  IT’LL\u3000do": "naïve <b> it'll do",
}
"""What ftfy and CLIP make of a text, as they were seen to."""


def letters() -> list[str]:
    """The letter that stands for each byte."""
    own = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(b if b in own else next(others)) for b in range(256)]


def merged(pieces: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """The pair that was merged first in training is merged first, everywhere in the word."""
    while len(pieces) > 1:
        pairs = list(itertools.pairwise(pieces))
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        joined: list[str] = []
        k = 0
        while k < len(pieces):
            both = tuple(pieces[k : k + 2]) == best
            joined.append("".join(best) if both else pieces[k])
            k += 2 if both else 1
        pieces = joined
    return pieces


class Encoders:
    """Token ids of GLIDE's and of CLIP's text."""

    def __init__(self, folder: Path) -> None:
        self.letters = letters()
        self.glide = json.loads((folder / "encoder.json").read_text("utf-8"))
        lines = (folder / "vocab.bpe").read_text("utf-8").split("\n")[1:-1]
        self.glide_ranks = {tuple(line.split()): k for k, line in enumerate(lines)}
        text = gzip.decompress((folder / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode()
        lines = text.split("\n")[1 : 49152 - 256 - 1]
        self.clip_ranks = {tuple(line.split()): k for k, line in enumerate(lines)}
        own = {*range(33, 127), *range(161, 173), *range(174, 256)}
        order = [
            *(chr(b) for b in sorted(own)),
            *(self.letters[b] for b in range(256) if b not in own),
        ]
        names = [*order, *(letter + "</w>" for letter in order), *map("".join, self.clip_ranks)]
        self.clip = {name: k for k, name in enumerate(names)}

    def of_glide(self, text: str) -> list[int]:
        words = GPT2.findall(text.lower())
        pieces = [self.letters_of(word) for word in words]
        return [self.glide[p] for word in pieces for p in merged(word, self.glide_ranks)]

    def of_clip(self, text: str) -> list[int]:
        plain = html.unescape(html.unescape(REPAIRED.get(text, text)))
        ids = []
        for word in CLIP.findall(" ".join(plain.split()).lower()):
            pieces = self.letters_of(word)
            pieces[-1] += "</w>"
            ids += [self.clip[p] for p in merged(pieces, self.clip_ranks)]
        return ids

    def letters_of(self, word: str) -> list[str]:
        return [self.letters[b] for b in word.encode()]


@cache
def encoders_of(folder: Path) -> Encoders:
    return Encoders(folder)


def tokenizers(folder: Path, texts: Sequence[str], context: int, of_clip: int) -> dict[str, Any]:
    """A case with other texts and contexts; what is too long is cut, CLIP's keeping its end."""
    encoders, items, end = encoders_of(folder), [], 50256
    start, stop = 49406, 49407
    for text in texts:
        ids, clip = encoders.of_glide(text), encoders.of_clip(text)
        padded = [*ids[:context], *[end] * context][:context]
        kept = [start, *clip, stop]
        kept = kept if len(kept) <= of_clip else [*kept[: of_clip - 1], stop]
        items.append({
            "text": text, "glide_ids": ids, "clip_ids": clip, "clip_length": len(kept),
            f"glide_padded_{context}_valid": min(len(ids), context),
            f"glide_padded_{context}_first": padded[:8],
            f"glide_padded_{context}_last": padded[-3:],
            f"clip_padded_{of_clip}": [*kept, *[0] * of_clip][:of_clip],
        })  # fmt: skip
    return {
        "kind": "tokenizers", "items": items,
        "glide": {
            "n_vocab": 50257, "end_token": end, "context": context,
            "encoder_json_sha256": digest("encoder.json"), "vocab_bpe_sha256": digest("vocab.bpe"),
        },
        "clip": {
            "n_entries": 49408, "start_token": start, "end_token": stop, "context": of_clip,
            "merges_gz_sha256": digest("bpe_simple_vocab_16e6.txt.gz"),
        },
    }  # fmt: skip
