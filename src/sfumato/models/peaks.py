"""What a run takes of its device's memory and of the main one, by what is offloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sfumato.core.process import Process
from sfumato.models.cost import networks_in, weight_bytes
from sfumato.models.devices import OFFLOADS, SHARED, capacity
from sfumato.models.guest import Guest
from sfumato.models.memory import GIB, Need, weights_there


@dataclass(frozen=True)
class Peak:
    """Bytes at least, weights with them; fits: what the device and the machine have."""

    device: float
    main: float
    fits: bool


def peaks(process: Process, needed: Sequence[Need]) -> dict[str, Peak]:
    """Of a resolved process, by devices.OFFLOADS; needed: what `memory.needs` says of it.

    Where a device has the main memory, that is one figure, and nothing is offloaded; nor is it of
    networks that are not diffusers'.
    """
    model: Any = process.source
    device, weights = str(process.device), weight_bytes(model)
    if torch.device(device).type in SHARED:
        whole = weights + max((need.size for need in needed), default=0)
        return {"none": Peak(whole, whole, whole <= capacity(device))}
    moments = [*needed, *(Need(0, "a prompt", nets=(net,)) for net in networks_in(model.text))]
    pictures = max((need.size for need in moments if not need.on_device), default=0)

    def peak(how: str) -> Peak:
        there = max(
            (n.size + weights_there(process, n.nets, how) for n in moments if n.on_device),
            default=0,
        )
        here = pictures + (0 if how == "none" else weights)
        return Peak(there, here, there <= capacity(device) and here <= capacity("cpu"))

    movable = isinstance(process.denoiser.network, Guest)
    return {how: peak(how) for how in (OFFLOADS if movable else OFFLOADS[:1])}


def sentences(found: dict[str, dict[str, Any]], device: str, chosen: str) -> list[str]:
    """A line for each; none where there is no choice."""
    if len(found) < 2:
        return []
    rooms = capacity(device) / GIB, capacity("cpu") / GIB
    return [
        f"offload {how}{', as chosen' if how == chosen else ''}: at least "
        f"{one['device'] / GIB:.2g} GiB of the {rooms[0]:.3g} on {device} and "
        f"{one['main'] / GIB:.2g} of the {rooms[1]:.3g} in main memory, which "
        f"{'fits' if one['fits'] else 'does not fit'}."
        for how, one in found.items()
    ]
