"""Fields that several methods have, described once."""

from __future__ import annotations

from typing import Annotated

from sfumato.methods import Colour, knob

Invert = Annotated[bool, knob("swap the mask's black and white")]
AlphaMask = Annotated[bool, knob("the picture's transparency is the edit mask")]
Grow = Annotated[int, knob("enlarge the mask first", unit="px", ge=0, le=4096)]
Feather = Annotated[float, knob("soften the mask's edge, inwards", unit="px", ge=0, le=512)]
Background = Annotated[Colour, knob("colour behind transparent parts, for the network")]
