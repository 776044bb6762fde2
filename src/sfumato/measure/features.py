"""Features of a user's own network, where its weights are at hand: Inception, DINO, CLIP, ...

A folder as transformers saves it (DINO, CLIP, SigLIP, any vision model), or a TorchScript file
(such as StyleGAN's Inception, whose `return_features` gives the 2048 values of KID and FID).
Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.core.errors import SfumatoError

Features = Callable[[Tensor], Tensor]
"""Pictures (B, 3, H, W) in [-1, 1] -> features (B, d)."""

ROWS = 32


def load(source: str | Path, device: str = "cpu") -> Features:
    """The features of a folder or a TorchScript file."""
    path = Path(source).expanduser()
    if (path / "config.json").is_file():
        return batched(_folder(path, device))
    if path.is_file():
        return batched(_script(path, device))
    raise SfumatoError(
        f"features {source}: no such file or folder; give a TorchScript file, or a folder with "
        "config.json, preprocessor_config.json and the weights"
    )


def batched(features: Features) -> Features:
    """The same, a few pictures at a time and without gradients, on the CPU afterwards."""

    def run(pixels: Tensor) -> Tensor:
        with torch.no_grad():
            parts = [features(part).flatten(1).float().cpu() for part in torch.split(pixels, ROWS)]
        return torch.cat(parts)

    return run


def _script(path: Path, device: str) -> Features:
    try:
        jit: Any = torch.jit  # without types
        network = jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise SfumatoError(f"features {path}: not a TorchScript file ({reason})") from None
    names = {argument.name for argument in network.forward.schema.arguments}
    options = {"return_features": True} if "return_features" in names else {}

    def features(pixels: Tensor) -> Tensor:
        found: Tensor = network(((pixels + 1) * 127.5).round().clamp(0, 255).to(device), **options)
        return found

    return features


def _folder(path: Path, device: str) -> Features:
    from transformers import AutoImageProcessor, AutoModel

    try:
        network = AutoModel.from_pretrained(path, local_files_only=True, dtype=torch.float32)
        processor: Any = AutoImageProcessor
        prepare = processor.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise SfumatoError(f"features {path}: {str(error).strip().splitlines()[0]}") from None
    network = network.to(device).eval()

    def features(pixels: Tensor) -> Tensor:
        shown = ((pixels + 1) * 127.5).round().clamp(0, 255).byte()
        given = prepare(images=list(shown.cpu()), return_tensors="pt")["pixel_values"].to(device)
        if hasattr(network, "get_image_features"):
            return _tensor(network.get_image_features(pixel_values=given))
        return _tensor(network(pixel_values=given))

    return features


def _tensor(found: Any) -> Tensor:
    """A tensor; of a model's output the pooled one, else its class token."""
    if isinstance(found, Tensor):
        return found
    pooled: Tensor | None = getattr(found, "pooler_output", None)
    if pooled is not None:
        return pooled
    token: Tensor = found.last_hidden_state[:, 0]
    return token
