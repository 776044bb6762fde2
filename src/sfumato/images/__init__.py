"""The one way pictures enter and leave: files, PIL, arrays in; work tensors and back; files out.

Results carry their recipe as text; what a recipe means, and all networks, are elsewhere. Importing
this loads neither torch nor numpy.
"""

from __future__ import annotations

from sfumato.images.contact import sheet
from sfumato.images.frame import Frame, plan_frame
from sfumato.images.inputs import Image, ImageInput, inputs_of, open_image, resolver
from sfumato.images.masks import (
    alpha_mask,
    difference_mask,
    edit_mask,
    feather,
    grow,
    mask_box,
    open_mask,
)
from sfumato.images.metadata import read_metadata
from sfumato.images.picture import Picture
from sfumato.images.stroke import strokes
from sfumato.images.work import (
    crop_work,
    from_tensor,
    from_work,
    mask_to_work,
    paste,
    resized,
    to_work,
)

__all__ = [
    "Frame",
    "Image",
    "ImageInput",
    "Picture",
    "alpha_mask",
    "crop_work",
    "difference_mask",
    "edit_mask",
    "feather",
    "from_tensor",
    "from_work",
    "grow",
    "inputs_of",
    "mask_box",
    "mask_to_work",
    "open_image",
    "open_mask",
    "paste",
    "plan_frame",
    "read_metadata",
    "resized",
    "resolver",
    "sheet",
    "strokes",
    "to_work",
]
