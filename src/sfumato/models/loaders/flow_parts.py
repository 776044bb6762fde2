"""What families of flows have alike: their parts, tokens of cells, names of LoRA files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from sfumato.core.denoiser import Network
from sfumato.core.errors import SfumatoError
from sfumato.models.card import Defaults
from sfumato.models.files.spans import Reader
from sfumato.models.shifts import Ramp


@dataclass(frozen=True, eq=False)
class Flow:
    """A family's parts of a pipeline.

    patch: cells to a token's side; ramp: of its times before the shift (shifts.py); cells,
    most_cells: sides of a state, native and at most; code: what the network reads of t.
    """

    network: Network
    text: Reader
    title: str
    patch: int
    ramp: Ramp
    cells: int
    most_cells: int
    defaults: Defaults
    code: Callable[[float], float]


def packed(x: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) -> (B, H W / patch^2, C patch^2): a token is patch x patch cells."""
    return F.pixel_unshuffle(x, patch).flatten(2).transpose(1, 2)


def unpacked(tokens: Tensor, height: int, width: int, patch: int) -> Tensor:
    """The reverse; height and width in tokens."""
    grid = tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)
    return F.pixel_shuffle(grid, patch)


def renamed(converter: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """LoRA tensors by the layers' names in diffusers, which knows other programs' names."""
    from diffusers.loaders import lora_conversion_utils

    convert = getattr(lora_conversion_utils, converter, None)
    if convert is None:
        raise SfumatoError(
            "adapter: this version of diffusers does not know these names; take a newer one"
        )
    return dict(convert(tensors))


def are_renamed(tensors: dict[str, Tensor]) -> bool:
    """Whether a LoRA's tensors have the names of kohya's scripts, ComfyUI or peft."""
    begins = ("lora_unet_", "diffusion_model.")
    return any(
        name.startswith(begins) or "default." in name or name.endswith(".alpha") for name in tensors
    )
