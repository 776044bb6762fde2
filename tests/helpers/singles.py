"""Checkpoints in one file, made of tiny pipelines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from helpers import pipelines
from sfumato.models.files import key_names

VAE_BACK = [
    (r"down_blocks\.(\d+)\.resnets", r"down.\1.block"),
    (r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample"),
    (r"up_blocks\.(\d+)\.resnets", r"up.\1.block"),
    (r"up_blocks\.(\d+)\.upsamplers\.0", r"up.\1.upsample"),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
    (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
    (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
    (r"conv_shortcut", "nin_shortcut"),
    (r"conv_norm_out", "norm_out"),
]


def original_vae(vae: Any) -> dict[str, Tensor]:
    """The autoencoder's weights as a latent-diffusion checkpoint has them."""
    last = len(vae.config.block_out_channels) - 1
    weights = {}
    for name, value in vae.state_dict().items():
        for pattern, replacement in VAE_BACK:
            name = re.sub(pattern, replacement, name)
        name = re.sub(r"\bup\.(\d+)", lambda m: f"up.{last - int(m[1])}", name)
        if re.search(r"attn_1\.(q|k|v|proj_out)\.weight", name):
            value = value[:, :, None, None]
        weights[name] = value
    return weights


def open_clip(encoder: Any, projected: bool, spare: bool) -> dict[str, Tensor]:
    """A text encoder as open_clip has it; spare: with the last layer that 2.x does not use."""
    weights = {k.removeprefix("text_model."): v for k, v in encoder.state_dict().items()}
    tensors: dict[str, Tensor] = {"logit_scale": torch.tensor(4.6)}
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc"}
    names |= {"mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj"}
    for name, value in weights.items():
        if name == "text_projection.weight":
            tensors["text_projection"] = value.T.contiguous()
        elif m := re.match(r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.(\w+)", name):
            stem = f"encoder.layers.{m[1]}.self_attn"
            parts = [weights[f"{stem}.{which}_proj.{m[2]}"] for which in "qkv"]
            tensors[f"transformer.resblocks.{m[1]}.attn.in_proj_{m[2]}"] = torch.cat(parts)
        m = re.match(r"encoder\.layers\.(\d+)\.(.*)\.(weight|bias)", name)
        if m and m[2] in names:
            tensors[f"transformer.resblocks.{m[1]}.{names[m[2]]}.{m[3]}"] = value
    tensors["positional_embedding"] = weights["embeddings.position_embedding.weight"]
    tensors["token_embedding.weight"] = weights["embeddings.token_embedding.weight"]
    for which in ("weight", "bias"):
        tensors[f"ln_final.{which}"] = weights[f"final_layer_norm.{which}"]
    if spare:
        layers = encoder.config.num_hidden_layers
        last = {k: v for k, v in tensors.items() if f"resblocks.{layers - 1}." in k}
        tensors |= {k.replace(f".{layers - 1}.", f".{layers}."): v * 0 + 7 for k, v in last.items()}
        tensors["text_projection"] = torch.zeros(4, 4)
    return tensors


def single_file(pipe: Any, kind: str, path: Path) -> Path:
    """The pipeline's weights as their authors would publish them."""
    names = key_names.sgm_names(pipe.unet)
    unet = {names[k]: v for k, v in pipe.unet.state_dict().items()}
    groups: dict[str, Mapping[str, Tensor]] = {
        "model.diffusion_model.": unet,
        "first_stage_model.": original_vae(pipe.vae),
    }
    if kind == "sd1":
        weights = pipe.text_encoder.state_dict()
        named = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in weights.items()}
        groups["cond_stage_model.transformer."] = named
    elif kind == "sd2":
        groups["cond_stage_model.model."] = open_clip(pipe.text_encoder, False, True)
    elif kind == "refiner":
        groups["conditioner.embedders.0.model."] = open_clip(pipe.text_encoder_2, True, False)
    else:
        weights = pipe.text_encoder.state_dict()
        named = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in weights.items()}
        groups["conditioner.embedders.0.transformer."] = named
        groups["conditioner.embedders.1.model."] = open_clip(pipe.text_encoder_2, True, False)
    tensors = {f"{p}{k}": v.contiguous() for p, group in groups.items() for k, v in group.items()}
    tensors["model_ema.decay"] = torch.tensor(0.999)
    if path.suffix == ".ckpt":
        torch.save({"state_dict": tensors, "global_step": 7}, path)
    else:
        save_file(tensors, path)
    pipelines.words(path.parent / "tokenizer")
    return path


def close(got: Tensor, wanted: Tensor) -> bool:
    """Equal but for rounding, which follows where a tensor happens to lie in memory."""
    return torch.allclose(got, wanted, rtol=0, atol=1e-5)
