"""A picture that results are to resemble, whatever its size: brought to the size that is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfumato.core.context import Run
from sfumato.core.lazy import torch
from sfumato.images import ImageInput

if TYPE_CHECKING:
    from torch import Tensor


def reference_pixels(method: str, image: ImageInput, run: Run) -> Tensor:
    """(1, 3, H, W) in [-1, 1] at the run's work size; of another shape its middle is taken.

    A tensor is a state, decoded. method: what an error calls the asker.
    """
    if image.is_tensor:
        state = image.state(method, run)
        return run.space.decode(state.reshape(-1, *run.shape))
    from PIL import Image as PILImage

    from sfumato.images import flattened

    height, width = (side * run.space.stride for side in run.shape[-2:])
    picture = flattened(image.picture(), "white")
    scale = min(picture.width / width, picture.height / height)
    across, down = scale * width, scale * height
    left, top = (picture.width - across) / 2, (picture.height - down) / 2
    way = PILImage.Resampling.BOX if scale >= 1 else PILImage.Resampling.LANCZOS
    fitted = picture.resize((width, height), way, box=(left, top, left + across, top + down))

    import numpy as np

    pixels = torch.from_numpy(np.asarray(fitted).astype(np.float32) / np.float32(127.5) - 1)
    return pixels.permute(2, 0, 1)[None].contiguous().to(run.device)
