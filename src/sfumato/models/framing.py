"""Geometry of a model's run: the size it works at, by the card's native size and multiple."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfumato import images
from sfumato.core.frame import Frame
from sfumato.core.process import Process
from sfumato.core.starts import Place

if TYPE_CHECKING:
    from sfumato.models.model import Model


def planned_frame(
    model: Model, process: Process, place: Place
) -> tuple[Frame | None, tuple[int, ...]]:
    """Frame and shape of the state; an upsampler's are given."""
    if process.stage:
        return process.geometry, process.shape
    card, factor = model.card, model.card.factor(process.stages)
    if place.exact:
        assert place.size is not None
        frame = images.whole_frame(place.size, card.multiple, 4 * card.maximum, factor)
        return frame, model.shape(frame.work)
    frame = images.plan_frame(
        place.size,
        native=card.native,
        multiple=card.multiple,
        maximum=card.maximum,
        cascade=process.stages > 1,
        factor=factor,
        size=process.size,
        box=place.box,
    )
    return frame, model.shape(frame.work)
