"""The network that a recipe's table `model.network` describes, read strictly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as pydantic_dataclass
from torch import nn

from sfumato.core.errors import SfumatoError
from sfumato.core.noise import keyed
from sfumato.documents import parse_data

T = TypeVar("T")
N = TypeVar("N", bound=nn.Module)

MOST = {"num_res_blocks": 64, "xf_layers": 256, "image_layers": 256, "text_layers": 256}
"""Largest counts of layers; of all other numbers LARGEST."""
LARGEST = 1_000_000
PICTURE = 3
"""Channels of what is trained on."""
LEAST = {
    **dict.fromkeys(("dropout", "text_ctx", "xf_width", "xf_layers", "n_vocab"), 0),
    **dict.fromkeys(("num_head_channels", "num_heads_upsample"), -1),
}
"""What may be 0, or -1 for none."""


def described(kind: type[T], table: Mapping[str, Any], where: str = "model.network") -> T:
    """A table as a network's dataclass: known fields, of their own types, within bounds."""
    parts = (value for value in table.values() if isinstance(value, Mapping))
    for name, value in [*table.items(), *(pair for part in parts for pair in part.items())]:
        numbers = value if isinstance(value, list | tuple) else [value]
        if not 1 <= len(numbers) <= 32:
            raise SfumatoError(f"{where}.{name}: has {len(numbers)} entries; give 1 to 32")
        for number in numbers:
            if isinstance(number, int | float) and not isinstance(number, bool):
                least, most = LEAST.get(name), MOST.get(name, LARGEST)
                if not (number > 0 if least is None else number >= least) or number > most:
                    bound = "above 0" if least is None else f"{least} or more"
                    raise SfumatoError(
                        f"{where}.{name} = {number}: must be {bound}, and at most {most}"
                    )
    config = ConfigDict(strict=True, extra="forbid")
    strict: Any = pydantic_dataclass(kind, frozen=True, config=config)
    values = asdict(parse_data(strict, dict(table), where))
    for name, value in table.items():
        if isinstance(value, Mapping) and (odd := sorted(set(value) - set(values[name] or ()))):
            raise SfumatoError(f"{where}: there is no field '{name}.{odd[0]}'; leave it out")
    if values.get("xf_width") and values["xf_width"] % values["xf_heads"]:
        raise SfumatoError(
            f"{where}.xf_width = {values['xf_width']}: must be a multiple of xf_heads "
            f"{values['xf_heads']}"
        )
    if values.get("xf_width") and not values["text_ctx"]:
        raise SfumatoError(f"{where}.text_ctx = 0: must be above 0 where xf_width is given")
    if (channels := values.get("in_channels", PICTURE)) != PICTURE:
        raise SfumatoError(f"{where}.in_channels = {channels}: must be {PICTURE}, as pictures have")
    return kind(**values)


def initialised(build: Callable[[], N], seed: int) -> N:
    """A network with fresh weights that follow from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(keyed(f"{seed}/init"))
        try:
            return build()
        except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SfumatoError(
                f"model.network: these numbers make no network ({reason:.120}); compare with those "
                "of a recipe in recipes/"
            ) from None
        except AssertionError:
            raise SfumatoError(
                "model.network: these numbers make no network; compare with those of a recipe in "
                "recipes/"
            ) from None
