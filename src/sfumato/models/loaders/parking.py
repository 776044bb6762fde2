"""Which networks of a model lie in main memory while they are not used, and how."""

from __future__ import annotations

from sfumato.core.errors import SfumatoError
from sfumato.models import offload
from sfumato.models.cost import networks_in
from sfumato.models.guest import Guest
from sfumato.models.model import Model

LARGE = 1 << 30
"""Bytes from which a text encoder is parked by layers."""


def park(model: Model) -> None:
    """As the model's choice says, before anything is called."""
    choice = model.choice
    if not isinstance(model.denoiser.network, Guest):
        raise SfumatoError(
            f"offload {choice.offload}: moves networks of diffusers, {model.name} has none; "
            "leave it out"
        )
    place, by_layers = offload.place_of(choice.device), choice.offload == "layers"
    coders = networks_in(model.space)
    own = [net for net in networks_in(model.denoiser) if net not in coders]
    for net in coders:
        offload.park(net, place, by_layers=False)
    for net in own:
        offload.park(net, place, by_layers)
    for net in networks_in(model.text):
        offload.park(net, place, by_layers and offload.nbytes(net) >= LARGE)
