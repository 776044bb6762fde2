"""A folder of released GLIDE files as one model: its card, stages and defaults of the notebooks.

Looked for: base or base-inpaint, upsample or upsample-inpaint (.pt or .safetensors), encoder.json
and vocab.bpe; for CLIP guidance also clip/image-enc, clip/text-enc and CLIP's own vocabulary.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from sfumato.core.errors import SfumatoError
from sfumato.models.card import Card, ClipCard, Defaults
from sfumato.models.files.vocabularies import GlidePrompts, gpt2_tokenizer
from sfumato.models.loaders import openai

CLIP_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
ENDINGS = (".pt", ".safetensors")


def is_glide(folder: Path) -> bool:
    """Whether the folder has a released base and no card of its own."""
    return not (folder / "card.json").is_file() and bool(_find(folder, "base", "base-inpaint"))


def card(folder: Path) -> Card:
    """What the folder holds, with the notebooks' samplers (arXiv 2112.10741 and its code)."""
    base = _find(folder, "base", "base-inpaint")
    assert base is not None
    inpaints = base.stem == "base-inpaint"
    upsampler = _find(folder, "upsample-inpaint" if inpaints else "upsample", "upsample")
    steps: dict[str, Any] = {"spacing": "100", "solver": "ddpm"}
    methods = ({"method": "cfg", "scale": 5.0 if inpaints else 3.0}, {"method": "threshold"})
    upsampler_defaults = Defaults(
        solver="ddim",
        spacing="fast27",
        methods=({"method": "temperature", "value": 0.997}, {"method": "threshold"}),
    )
    return Card(
        name="glide",
        title=openai.preset(base.stem).title,
        base=openai.stage_card(base, Defaults()),
        native=(64, 64),
        multiple=8,
        maximum=256,
        defaults=Defaults(methods=methods, **steps),
        upsamplers=() if upsampler is None else (openai.stage_card(upsampler, upsampler_defaults),),
        clip=_clip(folder),
    )


def prompts(folder: Path) -> GlidePrompts:
    """GPT-2's tokenizer from the two files in the folder."""
    files = [folder / "encoder.json", folder / "vocab.bpe"]
    for file in files:
        if not file.is_file():
            raise SfumatoError(
                f"{folder}: GLIDE's {file.name} is missing; put GPT-2's encoder.json and vocab.bpe "
                "beside the checkpoints"
            )
    return GlidePrompts(gpt2_tokenizer(*files))


def _find(folder: Path, *stems: str) -> Path | None:
    candidates = (folder / (stem + ending) for stem in stems for ending in ENDINGS)
    return next((file for file in candidates if file.is_file()), None)


def _clip(folder: Path) -> ClipCard | None:
    """The card's entry of the CLIP, None without the three files."""
    image, text = (_find(folder, f"clip/{side}-enc") for side in ("image", "text"))
    if image is None or text is None or not (folder / CLIP_VOCABULARY).is_file():
        return None
    halves = {"image_encoder": image, "text_encoder": text}
    return ClipCard(
        asdict(openai.CLIP),
        CLIP_VOCABULARY,
        "squaredcos_cap_v2",
        parts={part: str(file.relative_to(folder)) for part, file in halves.items()},
    )
