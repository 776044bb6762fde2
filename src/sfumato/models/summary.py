"""What a model is, in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfumato.models.cost import parameter_count

if TYPE_CHECKING:
    from sfumato.models.model import Model


def summary(model: Model) -> str:
    """Name, sizes, weights, text and adapters."""
    networks = {id(d.network): d for d in (model.denoiser, *model.upsamplers)}
    count = sum(map(parameter_count, networks.values()))
    width, height = model.card.native
    stages = f", {1 + len(model.upsamplers)} stages" if model.upsamplers else ""
    title = f": {model.card.title}" if model.card.title else ""
    lines = [
        f"Model {model.name}{title}",
        f"{width}x{height} px{stages}; {count / 1e6:.1f} M parameters of its denoisers; "
        f"{model.choice.dtype} on {model.choice.device}",
        "reads text" if model.text else "reads no text",
    ]
    if model.adapters:
        names = ", ".join(str(adapter.get("name", "?")) for adapter in model.adapters)
        lines.append(f"adapters: {names}")
    return "\n  ".join(lines)
