"""Fields that several methods have, described once."""

from __future__ import annotations

from typing import Annotated

from sfumato.core.idle import Needs
from sfumato.methods import knob
from sfumato.methods.common.kinds import Colour

PICTURE = Needs("image~picture")

Invert = Annotated[bool, knob("swap the mask's black and white")]
AlphaMask = Annotated[bool, knob("the picture's transparency is the edit mask"), PICTURE]
Grow = Annotated[int, knob("enlarge the mask first", unit="px", ge=0, le=4096), PICTURE]
Feather = Annotated[
    float, knob("soften the mask's edge, inwards", unit="px", ge=0, le=512), PICTURE
]
Background = Annotated[Colour, knob("colour behind transparent parts, for the network"), PICTURE]
