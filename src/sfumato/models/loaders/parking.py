"""Which networks of a model lie in main memory while they are not used, and how."""

from __future__ import annotations

from sfumato.core.errors import SfumatoError
from sfumato.models import offload
from sfumato.models.cost import networks_in
from sfumato.models.files.quantised_already import method_of
from sfumato.models.guest import Guest
from sfumato.models.model import Model


def park(model: Model) -> None:
    """As the model's choice says, before anything is called."""
    choice = model.choice
    if not isinstance(model.denoiser.network, Guest):
        raise SfumatoError(
            f"offload {choice.offload}: moves networks of diffusers, {model.name} has none; "
            "leave it out"
        )
    nets = networks_in((model.denoiser, model.text, model.space))
    if any(method_of(net) == "bitsandbytes" for net in nets):
        raise SfumatoError(
            f"offload {choice.offload}: bitsandbytes' weights stay on their device; leave it out"
        )
    place, coders, readers = (
        offload.place_of(choice.device), networks_in(model.space), networks_in(model.text),
    )  # fmt: skip
    for net in nets:
        by_layers = offload.goes_by_layers(net, choice.offload, net in readers)
        offload.park(net, place, by_layers and net not in coders)
