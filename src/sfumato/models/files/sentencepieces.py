"""SentencePiece's vocabularies (spiece.model): pieces and their scores, read without its library.

The file is a protobuf message: field 1 is a piece (1 its text, 2 its score, 3 its kind), field 2
says how it was trained (3 the kind of model), field 3 how text is rewritten before (2 a table).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from sfumato.core.errors import SfumatoError
from sfumato.documents import read_bytes

LIMIT = 64 << 20
UNIGRAM, UNKNOWN, CONTROL = 1, 2, 3
"""A kind of model, and kinds of pieces."""
Field = tuple[int, int | bytes]


def unigram_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a file of the kind that T5 has."""
    pieces: list[tuple[str, float]] = []
    kinds: list[int] = []
    kind, table = UNIGRAM, b""
    try:
        for number, value in _fields(read_bytes(path, LIMIT)):
            if number == 1 and isinstance(value, bytes):
                piece, of = _piece(value)
                pieces.append(piece)
                kinds.append(of)
            elif number == 2 and isinstance(value, bytes):
                kind = next((v for n, v in _fields(value) if n == 3 and isinstance(v, int)), kind)
            elif number == 3 and isinstance(value, bytes):
                table = next((v for n, v in _fields(value) if n == 2 and isinstance(v, bytes)), b"")
    except (ValueError, IndexError, struct.error):
        raise SfumatoError(f"{path}: is no SentencePiece vocabulary, or is damaged") from None
    if kind != UNIGRAM or UNKNOWN not in kinds:
        raise SfumatoError(f"{path}: is no SentencePiece vocabulary of the unigram kind")
    return _built(path, pieces, kinds, table)


def _built(
    path: Path, pieces: list[tuple[str, float]], kinds: list[int], table: bytes
) -> Tokenizer:
    try:
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=kinds.index(UNKNOWN)))
        before = [normalizers.Precompiled(table)] if table else []
        tokenizer.normalizer = normalizers.Sequence(
            [*before, normalizers.Strip(left=False), normalizers.Replace(Regex(" {2,}"), "\u2581")]
        )
    except Exception as error:  # tokenizers raises nothing more special than that
        raise SfumatoError(f"{path}: no tokenizer ({str(error)[:100]})") from None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    control = [piece for (piece, _), of in zip(pieces, kinds, strict=True) if of == CONTROL]
    tokenizer.add_special_tokens(control)
    return tokenizer


def _piece(data: bytes) -> tuple[tuple[str, float], int]:
    """(text, score), kind."""
    text, score, kind = "", 0.0, 1
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            text = value.decode()
        elif number == 2 and isinstance(value, bytes):
            (score,) = struct.unpack("<f", value)
        elif number == 3 and isinstance(value, int):
            kind = value
    return (text, score), kind


def _fields(data: bytes) -> Iterator[Field]:
    """(number, value) of a message: whole numbers, or bytes."""
    at = 0
    while at < len(data):
        key, at = _number(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _number(data, at)
            yield number, value
            continue
        if wire not in (1, 2, 5):
            raise ValueError(wire)
        size = {1: 8, 5: 4}.get(wire, 0)
        if wire == 2:
            size, at = _number(data, at)
        if at + size > len(data):
            raise ValueError(size)
        yield number, data[at : at + size]
        at += size


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A whole number of seven bits a byte, and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError(value)
