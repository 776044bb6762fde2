"""ImageInput: a picture given to a method, whatever it was given as; and open_image.

The bytes are read at once, so that a later change of the file does not change a process. Decoding
is decode.py, what is kept of arrays and tensors encode.py. A field of pydantic classes without
importing pydantic.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sfumato import documents
from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import LazyModule

if TYPE_CHECKING:
    from PIL import Image as PILImage

    from sfumato.core.context import Run
    from sfumato.images import decode as decoding
    from sfumato.images import encode
    from sfumato.images import picture as pictures
    from sfumato.images.picture import Picture
else:  # methods name this type, and help must not wait for Pillow
    PILImage = LazyModule("PIL.Image")
    decoding = LazyModule("sfumato.images.decode")
    encode = LazyModule("sfumato.images.encode")
    pictures = LazyModule("sfumato.images.picture")

if TYPE_CHECKING:
    from torch import Tensor

MAX_BYTES = 1 << 30  # no picture is larger; a film given by mistake is not read to its end
_NPY = b"\x93NUMPY"


def _not_here(digest: str, name: str) -> bytes:
    raise SfumatoError(
        f"input {name} (sha256 {digest[:12]}…): not here; put the file {name} beside the recipe or "
        "into the working folder"
    )


# (sha256, name) -> bytes of a picture that a recipe names by its hash; set while a recipe is read
resolver: ContextVar[Callable[[str, str], bytes]] = ContextVar(
    "sfumato_resolver", default=_not_here
)


@dataclass(frozen=True, eq=False, repr=False)
class ImageInput:
    """data: bytes of a picture file, or of a .npy tensor in units of the state; name: of the file.

    Equal when the bytes are equal.
    """

    data: bytes
    name: str = "image"

    @classmethod
    def of(cls, value: Any, name: str | None = None) -> ImageInput:
        """From a path, file bytes, PIL image, numpy array, torch tensor or ImageInput.

        Arrays are pictures, (H, W), (H, W, 3) or (H, W, 4): uint8, bool (white = true), or floats
        in [0, 1], rounded to 8 bits. Tensors are states, kept as they are. PIL images and arrays
        are kept as PNG, upright and sRGB. Raises SfumatoError when it is none of these or cannot be
        read.
        """
        if isinstance(value, cls):
            return value if name is None else cls(value.data, pictures.file_name(name))
        if isinstance(value, str | Path):
            data, own_name = read_bytes(value), Path(value).name
        elif isinstance(value, bytes | bytearray | memoryview):
            data, own_name = bytes(value), "image"
        elif isinstance(value, PILImage.Image):
            data, own_name = encode.png(value), pictures.name_of(value)
        elif _is(value, "numpy", "ndarray"):
            data, own_name = encode.png(encode.from_array(value)), "array.png"
        elif _is(value, "torch", "Tensor"):
            data, own_name = encode.npy(value), "tensor.npy"
        else:
            raise SfumatoError(
                f"picture: got {type(value).__name__}; give a path, bytes, a PIL image, a numpy "
                "array or a torch tensor"
            )
        if not data:
            raise SfumatoError(f"{name or own_name}: is empty")
        return cls(data, pictures.file_name(name or own_name))

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def is_tensor(self) -> bool:
        """Holds a tensor in units of the state instead of a picture."""
        return self.data.startswith(_NPY)

    def picture(self) -> Picture:
        """Upright sRGB 8-bit RGB with alpha apart; decoded once, a copy for every caller."""
        return self._picture.copy()

    def tensor(self) -> Tensor:
        """The tensor, with the shape and dtype it was given in (bfloat16 as float32)."""
        import numpy as np
        import torch

        if not self.is_tensor:
            raise SfumatoError(
                f"{self.name}: is a picture; a tensor is needed here, give a torch.Tensor"
            )
        try:
            array = np.load(io.BytesIO(self.data), allow_pickle=False)
            tensor = torch.from_numpy(array)
        except Exception as error:  # the header may claim any shape and type
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SfumatoError(f"{self.name}: not a readable .npy tensor ({text})") from None
        if tensor.is_complex() or not tensor.numel():
            what = "holds complex numbers" if tensor.is_complex() else "is empty"
            raise SfumatoError(f"{self.name}: {what}; give real values (C, H, W)")
        if not torch.isfinite(tensor).all():
            raise SfumatoError(f"{self.name}: has values that are not finite; repair it first")
        return tensor

    def state(self, method: str, run: Run, mask: bool = False) -> Tensor:
        """The tensor as a run's states, on its device: one for all pictures, or one for each.

        mask: of one channel, or as many, and within [0, 1]. method: what an error calls the asker.
        """
        tensor, shape, n = self.tensor(), run.shape, run.n
        own = tuple(tensor.shape[-len(shape) :])
        import torch

        fits = own == shape or (mask and own == (1, *shape[1:]))
        many = tensor.ndim == len(shape) + 1 and len(tensor) in (1, n)
        if not fits or not (many or tensor.ndim == len(shape)) or tensor.is_complex():
            size = "x".join(map(str, tensor.shape)) or "no sides"
            wanted = "x".join(map(str, (1, *shape[1:]) if mask else shape))
            raise SfumatoError(
                f"{method}: {self.name} is a tensor of {size}; this run takes {wanted}, or one for "
                f"each of its {n}"
            )
        if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64):
            tensor = tensor.to(torch.int64)  # of those torch knows no least and no largest
        if mask:
            tensor = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
        if mask and not (tensor.min() >= 0 and tensor.max() <= 1):
            low, high = float(tensor.min()), float(tensor.max())
            raise SfumatoError(
                f"{method}: mask {self.name} goes from {low:g} to {high:g}; give values from 0 to 1"
            )
        return tensor.to(run.device)

    def edit_mask(self, method: str, run: Run, invert: bool = False) -> Tensor:
        """The tensor as the edit mask of a run, maybe inverted; 1 = may change."""
        tensor = self.state(method, run, mask=True)
        edit = 1 - tensor if invert else tensor
        if edit.max() == 0:
            raise SfumatoError(
                f"{method}: mask {self.name}: nothing may change, it is 0 everywhere"
            )
        return edit

    @cached_property
    def _picture(self) -> Picture:
        if self.is_tensor:
            raise SfumatoError(
                f"{self.name}: holds a tensor; a picture is needed here: a file, a PIL image or a "
                "numpy array"
            )
        picture = decoding.decode(self.data, self.name)
        picture.sha256 = self.sha256
        return picture

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageInput) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"ImageInput({self.name!r}, sha256 {self.sha256[:12]}…)"

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageInput, (self.data, self.name)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.with_info_plain_validator_function(
            _validated,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: {"sha256": value.sha256, "name": value.name}, when_used="json"
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return {
            "type": "object",
            "format": "image",
            "properties": {
                "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                "name": {"type": "string"},
            },
            "required": ["sha256"],
            "additionalProperties": False,
        }


# How a method's field reads: `image: Image`. Type checkers see Any, since the field takes whatever
# ImageInput.of takes and holds an ImageInput.
if TYPE_CHECKING:
    Image: TypeAlias = Any
else:
    Image = ImageInput


def open_image(source: Any) -> Picture:
    """The picture in a path, file bytes, PIL image, array or ImageInput: upright, sRGB, 8-bit RGB.

    Transparency is in `.alpha`. Raises SfumatoError with one line that says what is wrong.
    """
    if isinstance(source, PILImage.Image):
        alpha = getattr(source, "alpha", None)
        picture = decoding.converted(source, pictures.name_of(source))
        picture.alpha = picture.alpha if alpha is None else alpha.copy()
        if isinstance(source, pictures.Picture):
            picture.recipe, picture.composite = source.recipe, source.composite
            picture.sha256 = source.sha256
        return picture
    return ImageInput.of(source).picture()


def inputs_of(value: Any) -> list[ImageInput]:
    """Every picture among the fields of a method."""
    return list(_inputs(value)) if is_dataclass(value) else []


def read_bytes(path: str | Path) -> bytes:
    """A regular file's bytes; errors are one clear line."""
    return documents.read_bytes(documents.expanded(path), MAX_BYTES)


def _validated(value: Any, info: Any) -> ImageInput:
    """JSON names pictures by hash only, so that no document from elsewhere can name a file here.

    Context {"files": False} asks the same of Python values.
    """
    if isinstance(value, Mapping):
        return _resolved(value)
    closed = info.mode == "json" or (info.context or {}).get("files") is False
    if closed and not isinstance(value, ImageInput):
        raise SfumatoError('picture: must be {"sha256": …, "name": …} here')
    return ImageInput.of(value)


def _resolved(value: Mapping[str, Any]) -> ImageInput:
    digest, name = value.get("sha256"), value.get("name", "image")
    if other := next((key for key in value if key not in ("sha256", "name")), None):
        raise SfumatoError(f"picture: no key {other!r:.60}; it has sha256 and name")
    if not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
        raise SfumatoError(f"picture: sha256 = {digest!r:.80} is not 64 hexadecimal digits")
    if not isinstance(name, str) or name in ("", ".", "..") or re.search(r"[\x00/\\]", name):
        raise SfumatoError(f"picture: name = {name!r:.80} is no file's own name")
    image = ImageInput(resolver.get()(digest, name), name)
    if image.sha256 != digest:
        raise SfumatoError(
            f"input {name}: its sha256 is {image.sha256[:12]}…, not {digest[:12]}…; it was changed"
        )
    return image


def _inputs(value: Any) -> Iterator[ImageInput]:
    if isinstance(value, ImageInput):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _inputs(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _inputs(getattr(value, field.name))


def _is(value: Any, module: str, kind: str) -> bool:
    """isinstance without importing: who has a tensor has imported torch."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, kind))
