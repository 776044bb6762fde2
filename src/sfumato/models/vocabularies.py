"""The tokenizers of GLIDE and of its noised CLIP, built from their released vocabulary files.

GLIDE reads GPT-2's encoder.json and vocab.bpe, CLIP its bpe_simple_vocab_16e6.txt.gz; they lie
beside a checkpoint or come from the hub. What they make is a `tokenizers` object, so that a
tokenizer.json can be kept in a model's folder.
"""

from __future__ import annotations

import gzip
import html
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError

GPT2_END = 50256
CLIP_START, CLIP_END = 49406, 49407
CLIP_MERGES = 49152 - 256 - 2
CLIP_PATTERN = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def gpt2(encoder: Path, merges: Path) -> Tokenizer:
    """Byte-level BPE of GPT-2 on lower-cased text (50257 entries, no start or end token)."""
    vocab = json.loads(_text(encoder))
    pairs = _pairs(_text(merges).splitlines()[1:])
    made = Tokenizer(models.BPE(vocab, pairs))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def clip(merges: Path) -> Tokenizer:
    """CLIP's BPE (49408 entries); text is cleaned by `cleaned` before it gets here."""
    try:
        lines = gzip.decompress(merges.read_bytes()).decode("utf-8").split("\n")
    except (OSError, EOFError) as error:
        raise SfumatoError(f"{merges}: cannot be read as CLIP's vocabulary ({error})") from None
    pairs = _pairs(lines[1 : CLIP_MERGES + 1])
    if len(pairs) != CLIP_MERGES:
        raise SfumatoError(f"{merges}: holds {len(pairs)} merges instead of {CLIP_MERGES}")
    letters = _bytes()
    names = [*letters, *(letter + "</w>" for letter in letters)]
    names += ["".join(pair) for pair in pairs] + ["<|startoftext|>", "<|endoftext|>"]
    vocab = {name: k for k, name in enumerate(names)}
    made = Tokenizer(models.BPE(vocab, pairs, end_of_word_suffix="</w>", fuse_unk=False))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return made


def _pairs(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Merges, two pieces a line."""
    split = [line.split() for line in lines if line.strip()]
    return [(pieces[0], pieces[-1]) for pieces in split]


def _bytes() -> list[str]:
    """The letters that stand for bytes, in the order of CLIP's first 256 entries."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + k) for k in range(len(others))]


UNSEEN = re.compile(
    "\x1b\\[[0-9;]*[A-Za-z]|[\0-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]"
)
WIDE = re.compile("[\u0132\u0133\u01c4-\u01cc\u01f1-\u01f3\u3000\ufb00-\ufb06\uff01-\uffef]")
"""Ligatures, and letters and marks of another width than their own."""
CURLED = {
    **dict.fromkeys((0x2BC, *range(0x2018, 0x201C)), "'"),
    **dict.fromkeys(range(0x201C, 0x2020), '"'),
}


def cleaned(text: str) -> str:
    """As CLIP does: entities unescaped twice, white space collapsed, lower case.

    Of the ftfy that runs before: what cannot be seen goes, curled quotes, ligatures and wide
    letters become plain ones, NFC. Text that was decoded wrongly is not repaired.
    """
    text = UNSEEN.sub("", text).translate(CURLED)
    text = WIDE.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    text = html.unescape(html.unescape(unicodedata.normalize("NFC", text)))
    return re.sub(r"\s+", " ", text).strip().lower()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SfumatoError(f"{file}: cannot be read as a vocabulary ({error})") from None


@dataclass(frozen=True)
class GlidePrompts:
    """tokens (B, 128) padded with the end token, mask true on real tokens; "" is all padding.

    cut: shorten to what fits, as the reference does, instead of refusing.
    """

    tokenizer: Tokenizer
    context: int = 128
    cut: bool = False

    def __call__(self, texts: Sequence[str], beside: Sequence[str] = ()) -> Cond:
        tokens = torch.full((len(texts), self.context), GPT2_END)
        mask = torch.zeros(len(texts), self.context, dtype=torch.bool)
        for row, text in enumerate(texts):
            # lower case of whole words: a sigma at their end has its own
            ids = self.tokenizer.encode(text.lower()).ids
            if len(ids) > self.context and not self.cut:
                raise SfumatoError(too_long(text, len(ids), self.context))
            ids = ids[: self.context]
            tokens[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
            mask[row, : len(ids)] = True
        return Cond({"tokens": tokens, "mask": mask})


@dataclass(frozen=True)
class ClipPrompts:
    """tokens (B, 77) = start, text, end, zeros; lengths count start and end.

    cut: shorten to what fits, as the reference does, instead of refusing.
    """

    tokenizer: Tokenizer
    context: int = 77
    cut: bool = False

    def __call__(self, texts: Sequence[str]) -> Cond:
        tokens = torch.zeros(len(texts), self.context, dtype=torch.int64)
        lengths = torch.zeros(len(texts), dtype=torch.int64)
        room = self.context - 2
        for row, text in enumerate(texts):
            ids = self.tokenizer.encode(cleaned(text)).ids
            if len(ids) > room and not self.cut:
                raise SfumatoError(too_long(text, len(ids), room))
            ids = [CLIP_START, *ids[:room], CLIP_END]
            tokens[row, : len(ids)] = torch.tensor(ids)
            lengths[row] = len(ids)
        return Cond({"tokens": tokens, "lengths": lengths})


def too_long(text: str, n: int, room: int) -> str:
    """What is said of a prompt that does not fit."""
    return f"prompt {text[:40]!r}…: {n} tokens, this model reads {room}; shorten it by {n - room}"
