"""A text over many places: which bit stands at which place, and reading it back from what is left.

Places are put into an order by the key, and every bit is turned by the key's stream, so that who
has no key sees random bits. Of the places in that order the first eighth carries the header, again
and again: the text's length in bytes (16 bits) and the low 16 bits of its CRC-32. The rest carries
the text in UTF-8 and its CRC-32, again and again. Bits of a byte and bytes of a number go from the
lowest up.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from hashlib import shake_256
from typing import TYPE_CHECKING

from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

LENGTH, CHECK = 2, 4  # bytes of a length, of a checksum
HEADER = 8 * 2 * LENGTH
SHARE = 8  # one place in so many is the header's
SURE = 2.0  # a place counts at most so many times as much as a fairly clear one


@dataclass(frozen=True)
class Payload:
    """places: how many bits there is room for. key: "" is nobody's."""

    places: int
    key: str = ""

    @property
    def room(self) -> int:
        """Bytes of the longest text."""
        rest = self.places - self.places // SHARE
        return max(min(rest // 8 - CHECK, (1 << 8 * LENGTH) - 1), 0)

    def write(self, text: str, method: str) -> Tensor:
        """(places,) of 0 and 1. method: what an error calls the asker."""
        data = text.encode()
        head = self.places // SHARE
        if head < HEADER or len(data) > self.room:
            room = self.room if head >= HEADER else 0
            raise SfumatoError(
                f"{method}: the message has {len(data)} bytes, and this picture has room for "
                f"{room}; shorten it, or make a larger picture"
            )
        row = torch.cat([_repeated(_header(len(data)), head),
                         _repeated(_bits(_checked(data)), self.places - head)])  # fmt: skip
        bits = torch.empty_like(row)
        bits[self._order] = row
        return bits ^ self._stream

    def read(self, values: Tensor) -> str | None:
        """The text; values (places,): above 0 where a 1 is likelier, about 1 where that is clear.

        None where there is no text of this key.
        """
        turned = values.float().cpu().clamp(-SURE, SURE) * (1 - 2 * self._stream)
        row, head = turned[self._order], self.places // SHARE
        if head < HEADER:
            return None
        header = _bytes(_votes(row[:head], HEADER))
        length = int.from_bytes(header[:LENGTH], "little")
        if header != _head_bytes(length) or length > self.room:
            return None
        body = _bytes(_votes(row[head:], 8 * (length + CHECK)))
        data = body[:length]
        try:
            return data.decode() if body == _checked(data) else None
        except UnicodeDecodeError:
            return None

    @property
    def _order(self) -> Tensor:
        return torch.frombuffer(self._drawn("order", 8), dtype=torch.int64).argsort(stable=True)

    @property
    def _stream(self) -> Tensor:
        return (torch.frombuffer(self._drawn("stream", 1), dtype=torch.uint8) & 1).long()

    def _drawn(self, what: str, width: int) -> bytearray:
        """So many bytes for each place, which nobody without the key could tell from noise."""
        digest = shake_256(f"sfumato payload/{what}/{self.key}".encode())
        return bytearray(digest.digest(width * self.places))


def _header(length: int) -> Tensor:
    return _bits(_head_bytes(length))


def _head_bytes(length: int) -> bytes:
    said = length.to_bytes(LENGTH, "little")
    return said + zlib.crc32(said).to_bytes(CHECK, "little")[:LENGTH]


def _checked(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(CHECK, "little")


def _bits(data: bytes) -> Tensor:
    return torch.tensor([byte >> k & 1 for byte in data for k in range(8)])


def _bytes(bits: Tensor) -> bytes:
    rows = bits.view(-1, 8) << torch.arange(8)
    return bytes(rows.sum(1).tolist())


def _repeated(bits: Tensor, places: int) -> Tensor:
    return bits[torch.arange(places) % len(bits)]


def _votes(values: Tensor, count: int) -> Tensor:
    """What most of the places of each of `count` bits say, the clearer the more."""
    sums = torch.zeros(count).index_add(0, torch.arange(len(values)) % count, values)
    return (sums > 0).long()
