"""Loader of v-diffusion's released networks: cc12m_1, cc12m_1_cfg and wikiart_256.

Plain state dicts, recognised by their keys. The first two read CLIP's text embeddings, so a prompt
needs a CLIP ViT-B/16: a folder clip/ as transformers writes it beside the file, or the hub's cache.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import Cosine
from sfumato.models.card import Card, CleanClipCard, Defaults, StageCard
from sfumato.models.clip import CleanClip
from sfumato.models.devices import DTYPES, Choice
from sfumato.models.files.checkpoint import LoadReport, read_state_dict
from sfumato.models.files.hashes import file_digest
from sfumato.models.files.vocabularies import too_long_message
from sfumato.models.model import Model
from sfumato.nn.vdiffusion import VDiffusion, VDiffusionConfig

log = logging.getLogger("sfumato")

ENDINGS = (".pth", ".safetensors")
CLIP, PATCH = "openai/clip-vit-base-patch16", 16
NATIVE = 256


@dataclass(frozen=True)
class Preset:
    """A released network: the times it can be asked at, and the guidance it was made for."""

    title: str
    config: VDiffusionConfig
    t_min: float = 0.0
    t_max: float = 1.0
    scale: float | None = None


CC12M = VDiffusionConfig()
WIKIART = VDiffusionConfig(multipliers=(0.5, 1, 2, 2, 4, 4, 8), head_width=128, embedding=0)

PRESETS: dict[str, Preset] = {
    "cc12m_1": Preset("v-diffusion CC12M", CC12M),
    "cc12m_1_cfg": Preset("v-diffusion CC12M, for classifier-free guidance", CC12M, scale=3.0),
    "wikiart_256": Preset(
        "v-diffusion WikiArt, no text", WIKIART, 0.006366145797073841, 0.9957106709480286
    ),
}
"""Released networks by the stem of their file names; the times of the last are those of DDPM."""


def is_vdiffusion(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are a network's of this family: levels nested in each other."""
    return any(name.startswith("net.4.main.5.main.5.main.") for name in weights)


def find(folder: Path) -> Path | None:
    """The one network of this family in a folder, None without one."""
    files = [file for file in sorted(folder.iterdir()) if file.suffix in ENDINGS]
    files = [file for file in files if is_vdiffusion(read_state_dict(file))]
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise SfumatoError(f"{folder}: holds {names}; give one of these files")
    return files[0] if files else None


def load(name: str, file: Path, weights: Mapping[str, Tensor], choice: Choice) -> Model:
    """The model of a file's weights. name: what recipes call it."""
    preset = _preset(file, weights)
    config = preset.config
    network = _network(file, weights, config, choice)
    guided = preset.scale is not None
    methods = ({"method": "cfg", "scale": preset.scale},) if guided else ()
    card = Card(
        name=file.stem,
        title=preset.title,
        base=StageCard(asdict(config), (file.name,), "v-diffusion", "v"),
        native=(NATIVE, NATIVE),
        multiple=config.multiple,
        maximum=4 * NATIVE,
        defaults=Defaults(50, "iplms", "v-spliced", methods),
        clip=CleanClipCard("clip", CLIP),
    )
    denoiser = Denoiser(network, Cosine(), "v", code=float, t_min=preset.t_min, t_max=preset.t_max)
    digest = file_digest(file)
    model = Model(name, card, denoiser, (), None, choice, digest, folder=file.parent)
    return replace(model, text=Texts(model, config.embedding)) if config.embedding else model


@dataclass(frozen=True, eq=False)
class Texts:
    """Prompts to CLIP's text embeddings as they are, not normalised; the empty prompt is zeros.

    model: whose CLIP is read, when the first prompt that is not empty asks for it.
    """

    model: Model
    width: int

    def __call__(self, texts: Sequence[str], beside: Sequence[str] = ()) -> Cond:
        """clip_embed (B, width). beside: other texts of the run, which change nothing."""
        embed = torch.zeros(len(texts), self.width)
        if prompts := [text for text in texts if text.strip()]:
            rows = torch.tensor([bool(text.strip()) for text in texts])
            embed[rows] = self._embeddings(prompts).float().cpu()
        return Cond({"clip_embed": embed})

    def spans(self, text: str, beside: Sequence[str] = ()) -> None:
        """The network reads one vector and attends to no text."""

    def _embeddings(self, texts: Sequence[str]) -> Tensor:
        clip = self.model.clip()
        if not isinstance(clip, CleanClip):
            raise SfumatoError(
                f"prompt: {self.model.name} reads text through CLIP ViT-B/16, which is not here; "
                f"`sfumato models pull {CLIP}`, or put its folder as clip/ beside the weights"
            )
        config = clip.network.config
        if (config.projection_dim, config.vision_config.patch_size) != (self.width, PATCH):
            raise SfumatoError(
                f"prompt: the clip/ beside {self.model.name} has embeddings of width "
                f"{config.projection_dim} and patches of {config.vision_config.patch_size} px; "
                f"CLIP ViT-B/16 is needed, width {self.width} and {PATCH} px"
            )
        room = config.text_config.max_position_embeddings
        for text in texts:
            count = len(clip.tokenizer(text, verbose=False).input_ids)
            if count > room:
                raise SfumatoError(too_long_message(text, count, room))
        embeddings: Tensor = clip.embeddings(texts)
        return embeddings


def _preset(file: Path, weights: Mapping[str, Tensor]) -> Preset:
    """By the keys; what only training tells, guidance, by the name."""
    if not any(name.startswith("mapping") for name in weights):
        return PRESETS["wikiart_256"]
    return PRESETS["cc12m_1" if file.stem == "cc12m_1" else "cc12m_1_cfg"]


def _network(
    file: Path, weights: Mapping[str, Tensor], config: VDiffusionConfig, choice: Choice
) -> VDiffusion:
    """A frozen network in eval mode; every weight must be there, in its shape."""
    with torch.device("meta"):
        net = VDiffusion(config).cast(DTYPES[choice.dtype])
    expected = net.state_dict()
    report = LoadReport.of(expected, weights)
    if report.missing:
        raise SfumatoError(f"{file.name}: not one of {', '.join(PRESETS)}, {report}")
    if report.unexpected:
        log.warning("%s: %s", file.name, report)
    for name in report.matched:
        built, stored = tuple(expected[name].shape), tuple(weights[name].shape)
        if built != stored:
            raise SfumatoError(
                f"{file.name}: {name} is {stored}, not {built} as in {', '.join(PRESETS)}"
            )
    tensors: dict[str, Any] = {
        name: torch.empty_like(expected[name], device=choice.device).copy_(weights[name])
        for name in expected
    }
    net.load_state_dict(tensors, assign=True)
    return net.eval().requires_grad_(False)
