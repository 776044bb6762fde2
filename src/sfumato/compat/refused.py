"""Pipelines of diffusers that are not here: why each is refused."""

from __future__ import annotations

from collections.abc import Mapping

NAMED: Mapping[str, str] = {
    "DDIMPipeline": "sf.load reads it",
    "DDPMPipeline": "sf.load reads it",
    "Flux2KleinInpaintPipeline": "sf.Inpaint with sf.Reference does it",
    "Flux2KleinKVPipeline": "networks that keep a reference's keys are not supported",
    "Flux2Pipeline": "Flux.2's large networks are not supported",
    "FluxKontextInpaintPipeline": "sf.Inpaint with sf.Reference does it",
    "KarrasVePipeline": "its noise has no table",
    "LDMPipeline": "sf.load reads it",
    "PNDMPipeline": "sf.load reads it",
    "PixArtAlphaPipeline": "networks that read sizes are not supported, PixArt-Sigma's are",
    "ScoreSdeVePipeline": "its noise has no table",
    "StableUnCLIPPipeline": "of its kind StableUnCLIPImg2ImgPipeline is supported",
    "StableDiffusionLatentUpscalePipeline": "upscaling networks are not supported",
    "StableDiffusionUpscalePipeline": "upscaling networks are not supported",
}
"""Class -> why."""

WORDS: Mapping[str, str] = {
    "AnimateDiff": "pictures are made here, no films",
    "Alt": "its text encoder is not supported",
    "AttendAndExcite": "sf.DenseDiffusion places words",
    "Audio": "pictures are made here, no sounds",
    "Blip": "its text encoder is not supported",
    "Combined": "its prior is not supported; the decoder's own pipeline takes a prior's vectors",
    "ConsistencyModel": "its noise has no table",
    "ControlNet": "sf.ControlNet does it where a network of that kind is supported",
    "Controlnet": "networks that read hints are not supported",
    "Control": "Flux's control networks are not supported",
    "CycleDiffusion": "sf.SDEdit and sf.NullText edit pictures",
    "Depth": "depth networks are not supported",
    "DiffEdit": "sf.Inpaint takes a mask",
    "Edit": "edit networks of Qwen-Image are not supported",
    "GLIGEN": "sf.DenseDiffusion places words",
    "IF": "DeepFloyd's cascade is not supported",
    "ImageVariation": "sf.Variation does it on networks of unCLIP's kind",
    "InstructPix2Pix": "instruction networks are not supported",
    "Intrinsics": "pictures are made here, not measured",
    "Kandinsky": "of Kandinsky 2.2 the decoder is supported",
    "LDM3D": "depth networks are not supported",
    "LDMSuperResolution": "upscaling networks are not supported",
    "LDMTextToImage": "its text encoder is not supported",
    "Layered": "layered networks of Qwen-Image are not supported",
    "ModelEditing": "a LoRA file changes a model",
    "MusicLDM": "pictures are made here, no sounds",
    "Normals": "pictures are made here, not measured",
    "Omni": "networks that read pictures beside words are not supported, of Z-Image",
    "PAG": "sfumato has no guidance of its kind; sf.CFG guides",
    "PIA": "pictures are made here, no films",
    "PaintByExample": "networks that read an example are not supported; sf.IPAdapter reads one",
    "Panorama": "sf.Upscale works on parts of a picture",
    "Paradigms": "steps are walked one after the other",
    "Pix2PixZero": "sf.PromptToPrompt edits by words",
    "RePaint": "sf.Inpaint(resample=10) does it",
    "SAG": "sfumato has no guidance of its kind; sf.CFG guides",
    "Semantic": "sf.PromptToPrompt edits by words",
    "TextToVideo": "pictures are made here, no films",
    "VisualCloze": "networks that read examples are not supported",
    "Adapter": "T2I adapters are not supported; sf.ControlNet does the like",
}
"""Part of a class's name -> why, the first that fits."""


def why_not(name: str) -> str:
    """Why a pipeline is refused, as the rest of a sentence; empty of one that nobody knows."""
    words = (text for word, text in WORDS.items() if word in name)
    reason = NAMED.get(name) or next(words, "")
    return f": {reason}" if reason else ""
