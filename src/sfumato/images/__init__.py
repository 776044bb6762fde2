"""The one way pictures enter and leave: files, PIL, arrays in; work tensors and back; files out.

Results carry their recipe as text; what a recipe means, and all networks, are elsewhere. Importing
this loads neither torch nor numpy, nor Pillow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfumato.images.contact import guides_of, sheet
    from sfumato.images.frame import plan_frame, whole_frame
    from sfumato.images.inputs import Image, ImageInput, inputs_of, open_image, resolver
    from sfumato.images.masks import (
        acting,
        alpha_mask,
        difference_mask,
        edit_mask,
        edit_share,
        extended,
        feather,
        grow,
        mask_box,
        open_mask,
        painted_over,
    )
    from sfumato.images.picture import Picture, flattened
    from sfumato.images.stroke import strokes
    from sfumato.images.tensors import (
        crop_work,
        from_tensor,
        from_work,
        mask_to_cells,
        mask_to_work,
        paste,
        resized,
        to_square,
        to_work,
    )
    from sfumato.images.texts import read_metadata

# public name -> module that has it; imported when first read, so help does not wait for Pillow
_HOME = {
    "Image": "sfumato.images.inputs",
    "ImageInput": "sfumato.images.inputs",
    "Picture": "sfumato.images.picture",
    "acting": "sfumato.images.masks",
    "alpha_mask": "sfumato.images.masks",
    "crop_work": "sfumato.images.tensors",
    "difference_mask": "sfumato.images.masks",
    "edit_mask": "sfumato.images.masks",
    "edit_share": "sfumato.images.masks",
    "extended": "sfumato.images.masks",
    "feather": "sfumato.images.masks",
    "flattened": "sfumato.images.picture",
    "from_tensor": "sfumato.images.tensors",
    "from_work": "sfumato.images.tensors",
    "grow": "sfumato.images.masks",
    "guides_of": "sfumato.images.contact",
    "inputs_of": "sfumato.images.inputs",
    "mask_box": "sfumato.images.masks",
    "mask_to_cells": "sfumato.images.tensors",
    "mask_to_work": "sfumato.images.tensors",
    "open_image": "sfumato.images.inputs",
    "open_mask": "sfumato.images.masks",
    "painted_over": "sfumato.images.masks",
    "paste": "sfumato.images.tensors",
    "plan_frame": "sfumato.images.frame",
    "read_metadata": "sfumato.images.texts",
    "resized": "sfumato.images.tensors",
    "resolver": "sfumato.images.inputs",
    "sheet": "sfumato.images.contact",
    "strokes": "sfumato.images.stroke",
    "to_square": "sfumato.images.tensors",
    "to_work": "sfumato.images.tensors",
    "whole_frame": "sfumato.images.frame",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sfumato.images' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


__all__ = [
    "Image",
    "ImageInput",
    "Picture",
    "acting",
    "alpha_mask",
    "crop_work",
    "difference_mask",
    "edit_mask",
    "edit_share",
    "extended",
    "feather",
    "flattened",
    "from_tensor",
    "from_work",
    "grow",
    "guides_of",
    "inputs_of",
    "mask_box",
    "mask_to_cells",
    "mask_to_work",
    "open_image",
    "open_mask",
    "painted_over",
    "paste",
    "plan_frame",
    "read_metadata",
    "resized",
    "resolver",
    "sheet",
    "strokes",
    "to_square",
    "to_work",
    "whole_frame",
]
