"""Features of a user's own network, where its weights are at hand: Inception, DINO, CLIP, ...

A folder as transformers saves it (DINO, CLIP, SigLIP, any vision model), or a TorchScript file
(such as StyleGAN's Inception, whose `return_features` gives the 2048 values of KID and FID).
Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.errors import SfumatoError
from sfumato.documents import expanded, is_file
from sfumato.models.clip import clean_clip
from sfumato.models.files import pipeline

Features = Callable[[Tensor], Tensor]
"""Pictures (B, 3, H, W) in [-1, 1] -> features (B, d)."""

ROWS = 32


def load(source: str | Path, device: str = "cpu", *, token: bool = False) -> Features:
    """The features of a folder or a TorchScript file.

    token: of a folder's transformer its class token, as DINO is used, whatever pools it.
    """
    path = expanded(source)
    if is_file(path / "config.json"):
        return batched(_folder(path, device, token))
    if is_file(path):
        return batched(_script(path, device, {"return_features": True}))
    raise SfumatoError(
        f"features {source}: no such file or folder; give a TorchScript file, or a folder with "
        "config.json, preprocessor_config.json and the weights"
    )


def lpips(file: str | Path, device: str = "cpu") -> Features:
    """Vectors whose squared Euclidean distance is LPIPS (arXiv 1801.03924), at the pictures' size.

    Of a TorchScript file that gives them by return_lpips, such as StyleGAN's VGG16.
    """
    path = expanded(file)
    if not is_file(path):
        raise SfumatoError(f"lpips {file}: no such file; give a TorchScript file")
    options = {"return_lpips": True, "resize_images": False}
    return batched(_script(path, device, options, needed="return_lpips"))


def clip(
    folder: str | Path, device: str = "cpu"
) -> tuple[Features, Callable[[Sequence[str]], Tensor]]:
    """Unit vectors of pictures and of texts, by a CLIP as transformers saves one.

    Pictures are prepared as its own were: bicubic until the short side fits, then the middle.
    """
    network = clean_clip(expanded(folder), device)
    network.network.float()
    side = network.size

    def embed(pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        short = min(height, width)
        size = (height * side // short, width * side // short)
        x = F.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(-1, 1)
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        x = x[..., top : top + side, left : left + side].to(device)
        return network.image(x, torch.zeros(len(x), device=device))

    return batched(embed), lambda texts: network.text(texts).cpu()


def batched(features: Features) -> Features:
    """The same, a few pictures at a time and without gradients, on the CPU afterwards."""

    def run(pixels: Tensor) -> Tensor:
        with torch.no_grad():
            rows = [features(part).flatten(1).float().cpu() for part in torch.split(pixels, ROWS)]
        return torch.cat(rows)

    return run


def _script(
    path: Path, device: str, wanted: Mapping[str, bool], needed: str | None = None
) -> Features:
    """wanted: arguments that are given where the file's forward has them; needed: must be there."""
    try:
        jit: Any = torch.jit  # without types
        network = jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0].split(". ")[0]
        raise SfumatoError(f"features {path}: not a TorchScript file ({reason:.200})") from None
    names = {argument.name for argument in network.forward.schema.arguments}
    if needed is not None and needed not in names:
        raise SfumatoError(f"features {path}: its forward takes no {needed}; give one that does")
    options = {name: value for name, value in wanted.items() if name in names}

    def features(pixels: Tensor) -> Tensor:
        rows: Tensor = network(((pixels + 1) * 127.5).round().clamp(0, 255).to(device), **options)
        return rows

    return features


def _folder(path: Path, device: str, token: bool) -> Features:
    from transformers import AutoImageProcessor, AutoModel

    reader: Any = AutoModel
    try:
        with pipeline.quiet():
            network, report = reader.from_pretrained(
                path, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
        processor: Any = AutoImageProcessor
        prepare = processor.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise SfumatoError(f"features {path}: {str(error).strip().splitlines()[0]}") from None
    network = network.to(device).eval()
    # a pooler that the weights lack was drawn at random just now: DINO's folders have none
    token = token or any("pooler." in name for name in report["missing_keys"])

    def features(pixels: Tensor) -> Tensor:
        bytes_ = ((pixels + 1) * 127.5).round().clamp(0, 255).byte()
        inputs = prepare(images=list(bytes_.cpu()), return_tensors="pt")["pixel_values"].to(device)
        if hasattr(network, "get_image_features"):
            return _tensor(network.get_image_features(pixel_values=inputs), False)
        return _tensor(network(pixel_values=inputs), token)

    return features


def _tensor(output: Any, token: bool) -> Tensor:
    """A tensor; of a model's output the pooled one, else or if asked for its class token."""
    if isinstance(output, Tensor):
        return output
    pooled: Tensor | None = getattr(output, "pooler_output", None)
    states: Any = getattr(output, "last_hidden_state", None)
    tokens = states is not None and states.ndim == 3  # of a convolutional network: (B, d, h, w)
    if pooled is not None and not (token and tokens):
        return pooled
    first: Tensor = states[:, 0]
    return first
