"""Tokenizers from files: a model's tokenizer.json, and the released vocabularies of GLIDE.

GLIDE reads GPT-2's encoder.json and vocab.bpe, its noised CLIP bpe_simple_vocab_16e6.txt.gz; they
lie beside a checkpoint or come from the hub. All of them become `tokenizers` objects. What is read
is checked here first, since that library raises bare exceptions.
"""

from __future__ import annotations

import gzip
import html
import io
import json
import re
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.ranges import Range
from sfumato.core.source import Span
from sfumato.documents import parse_json, read_bytes, read_json, read_text
from sfumato.models.files.spans import Spans, align, column_spans, original_span, trim

GPT2_END = 50256
CLIP_START, CLIP_END = 49406, 49407
CLIP_MERGES = 49152 - 256 - 2
CLIP_PATTERN = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


LIMIT = 64 << 20
"""Bytes of a vocabulary's file."""

Id = Annotated[int, Range(0, 1 << 20)]


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class _Added(_Read):
    id: Id
    content: str


class _Pieces(_Read):
    """Byte pair encoding; with dropout a text would be other tokens every time."""

    type: Literal["BPE"] = "BPE"
    vocab: dict[str, Id]
    merges: list[tuple[str, str] | str]
    dropout: None = None


class Vocabulary(_Read):
    """What a tokenizer.json says of its tokens."""

    model: _Pieces
    added_tokens: list[_Added] = []

    def tokens(self) -> dict[str, int]:
        """The id of every piece."""
        return {**self.model.vocab, **{added.content: added.id for added in self.added_tokens}}

    def pairs(self) -> list[str]:
        """The merges, as a line each."""
        return [pair if isinstance(pair, str) else " ".join(pair) for pair in self.model.merges]


class File(Vocabulary):
    """A tokenizer.json; how long a text may be is the network's to say, not the file's."""

    truncation: None = None
    padding: None = None


def read_tokenizer(file: Path, size: int | None = None) -> Tokenizer:
    """The tokenizer of a tokenizer.json. size: of the table that its tokens are rows of."""
    text = read_text(file, LIMIT)
    vocabulary = parse_json(File, text, file.name)
    if size is not None and (highest := max(vocabulary.tokens().values(), default=0)) >= size:
        raise SfumatoError(
            f"{file}: has a token {highest}, the network's table {size} rows; it belongs to "
            "another model"
        )
    return _build(lambda: Tokenizer.from_str(text), file)


def _build(make: Callable[[], Tokenizer], file: Path) -> Tokenizer:
    try:
        return make()
    except Exception as error:  # tokenizers raises nothing more special than that
        reason = " ".join(str(error).split())
        raise SfumatoError(f"{file}: is no tokenizer that can be read ({reason:.150})") from None


def spell_out(folder: Path) -> None:
    """Write the vocab.json and merges.txt of a folder that has only a tokenizer.json.

    transformers 4 reads no other files for CLIP's tokenizer.
    """
    file, vocab, merges = (folder / n for n in ("tokenizer.json", "vocab.json", "merges.txt"))
    if vocab.exists() or not file.exists():
        return
    vocabulary = read_json(Vocabulary, file, LIMIT)
    merges.write_text("\n".join(["#version: 0.2", *vocabulary.pairs()]) + "\n", encoding="utf-8")
    vocab.write_text(json.dumps(vocabulary.tokens(), ensure_ascii=False), encoding="utf-8")


def bert_tokenizer(
    file: Path, small: bool, strip_accents: bool | None = None, apart: bool = True
) -> Tokenizer:
    """BERT's word pieces, a line each. small: of small letters; apart: each Chinese character."""
    pieces = read_text(file, LIMIT).split("\n")
    vocab = {piece.rstrip("\r"): k for k, piece in enumerate(pieces) if piece}
    for token in ("[CLS]", "[SEP]", "[PAD]", "[UNK]"):
        if token not in vocab:
            raise SfumatoError(f"{file}: has no token {token}; it belongs to another model")
    tokenizer = _build(lambda: Tokenizer(models.WordPiece(vocab, unk_token="[UNK]")), file)
    tokenizer.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=apart, strip_accents=strip_accents, lowercase=small
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def gpt2_tokenizer(encoder: Path, merges: Path) -> Tokenizer:
    """Byte-level BPE of GPT-2 on lower-cased text (50257 entries, no start or end token)."""
    vocab = read_json(dict[str, Annotated[int, Range(0, GPT2_END)]], encoder, LIMIT)
    pairs = _merge_pairs(read_text(merges, LIMIT).splitlines()[1:], merges)
    tokenizer = _build(lambda: Tokenizer(models.BPE(vocab, pairs)), merges)
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def clip_tokenizer(merges: Path) -> Tokenizer:
    """CLIP's BPE (49408 entries); text is cleaned by `clean` before it gets here."""
    try:
        with gzip.open(io.BytesIO(read_bytes(merges, LIMIT))) as stream:
            data = stream.read(LIMIT + 1)
        lines = data.decode("utf-8").split("\n")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise SfumatoError(f"{merges}: cannot be read as CLIP's vocabulary ({error})") from None
    if len(data) > LIMIT:
        raise SfumatoError(f"{merges}: holds more than {LIMIT >> 20} MiB; it is no vocabulary")
    pairs = _merge_pairs(lines[1 : CLIP_MERGES + 1], merges)
    if len(pairs) != CLIP_MERGES:
        raise SfumatoError(f"{merges}: holds {len(pairs)} merges instead of {CLIP_MERGES}")
    letters = _byte_letters()
    names = [*letters, *(letter + "</w>" for letter in letters)]
    names += ["".join(pair) for pair in pairs] + ["<|startoftext|>", "<|endoftext|>"]
    vocab = {name: k for k, name in enumerate(names)}
    tokenizer = _build(
        lambda: Tokenizer(models.BPE(vocab, pairs, end_of_word_suffix="</w>", fuse_unk=False)),
        merges,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def check_merges(file: Path) -> None:
    """Refuse a merges.txt that is cut off or holds something else than pairs of pieces."""
    lines = read_text(file, LIMIT).splitlines()
    headed = lines[:1] != [] and lines[0].startswith("#version")
    if not _merge_pairs(lines[headed:], file, 1 + headed):
        raise SfumatoError(f"{file}: holds no merges; the model is incomplete")


def _merge_pairs(lines: Sequence[str], file: Path, first: int = 2) -> list[tuple[str, str]]:
    """Merges, two pieces a line. first: number of the first one in the file."""
    pairs = []
    for number, line in enumerate(lines, first):
        pieces = line.split()
        if len(pieces) == 2:
            pairs.append((pieces[0], pieces[1]))
        elif pieces:
            raise SfumatoError(f"{file}, line {number}: {line!r:.60} is no pair of pieces")
    return pairs


def _byte_letters() -> list[str]:
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


def clean(text: str) -> str:
    """As CLIP does: entities unescaped twice, white space collapsed, lower case.

    Of the ftfy that runs before: what cannot be seen goes, curled quotes, ligatures and wide
    letters become plain ones, NFC. Text that was decoded wrongly is not repaired.
    """
    text = UNSEEN.sub("", text).translate(CURLED)
    text = WIDE.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    text = html.unescape(html.unescape(unicodedata.normalize("NFC", text)))
    return re.sub(r"\s+", " ", text).strip().lower()


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
                raise SfumatoError(too_long_message(text, len(ids), self.context))
            ids = ids[: self.context]
            tokens[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
            mask[row, : len(ids)] = True
        return Cond({"tokens": tokens, "mask": mask})

    def spans(self, text: str, beside: Sequence[str] = ()) -> Spans:
        """Which characters stand behind each column."""
        return column_spans(_rewritten_spans(self.tokenizer, text.lower(), text), self.context)


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
            ids = self.tokenizer.encode(clean(text)).ids
            if len(ids) > room and not self.cut:
                raise SfumatoError(too_long_message(text, len(ids), room))
            ids = [CLIP_START, *ids[:room], CLIP_END]
            tokens[row, : len(ids)] = torch.tensor(ids)
            lengths[row] = len(ids)
        return Cond({"tokens": tokens, "lengths": lengths})

    def spans(self, text: str, beside: Sequence[str] = ()) -> Spans:
        """Which characters stand behind each column, of which the first is the start."""
        spans = _rewritten_spans(self.tokenizer, clean(text), text)
        return column_spans(spans[: self.context - 2], self.context, before=1)


def _rewritten_spans(tokenizer: Tokenizer, rewritten: str, text: str) -> list[Span | None]:
    """Spans in a text of the tokens of what it was rewritten to."""
    places = align(rewritten, text)
    return trim([original_span(span, places) for span in tokenizer.encode(rewritten).offsets], text)


def too_long_message(text: str, n: int, room: int) -> str:
    """What is said of a prompt that does not fit."""
    return f"prompt {quoted(text)}: {n} tokens, this model reads {room}; shorten it by {n - room}"
