"""How other programs name the weights of the networks that diffusers has: tables of names.

Original latent-diffusion checkpoints ("sgm" names), the networks of the DDPM and VAE code,
open_clip's text encoders, and adapters' layers. Names and layouts only; files are read elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from sfumato.core.errors import SfumatoError

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
TOP = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def block_prefixes(
    layers: Sequence[int], attended: Mapping[int, bool]
) -> Iterator[tuple[str, str]]:
    """(ours, sgm) prefixes of the blocks; layers: of each level, downwards; attended: whether up
    block i has attention."""
    n = 1
    for i, count in enumerate(layers):
        for j in range(count):
            yield f"down_blocks.{i}.resnets.{j}", f"input_blocks.{n}.0"
            yield f"down_blocks.{i}.attentions.{j}", f"input_blocks.{n}.1"
            n += 1
        yield f"down_blocks.{i}.downsamplers.0.conv", f"input_blocks.{n}.0.op"
        n += 1
    for block, n in (("resnets.0", 0), ("attentions.0", 1), ("resnets.1", 2)):
        yield f"mid_block.{block}", f"middle_block.{n}"
    n = 0
    for i, count in enumerate(reversed(layers)):
        for j in range(count + 1):
            yield f"up_blocks.{i}.resnets.{j}", f"output_blocks.{n}.0"
            yield f"up_blocks.{i}.attentions.{j}", f"output_blocks.{n}.1"
            n += 1
        last = f"output_blocks.{n - 1}.{2 if attended.get(i) else 1}.conv"
        yield f"up_blocks.{i}.upsamplers.0.conv", last


def sgm_names(net: Any) -> dict[str, str]:
    """Name of every weight of a UNet2DConditionModel -> its name in an original checkpoint."""
    config, names = net.config, list(net.state_dict())
    levels = len(config.block_out_channels)
    attended = {
        i: any(name.startswith(f"up_blocks.{i}.attentions.") for name in names)
        for i in range(levels)
    }
    layers = config.layers_per_block
    layers = [layers] * levels if isinstance(layers, int) else layers
    prefixes = {**dict(block_prefixes(layers, attended)), **TOP}
    renamed = {}
    for name in names:
        prefix = next((p for p in prefixes if name.startswith(p + ".")), None)
        if prefix is None:
            renamed[name] = name
            continue
        suffix = name[len(prefix) + 1 :]
        if ".resnets." in prefix:
            inner, _, leaf = suffix.rpartition(".")
            suffix = f"{RESNET.get(inner, inner)}.{leaf}"
        renamed[name] = f"{prefixes[prefix]}.{suffix}"
    return renamed


DDPM_RULES = [
    (r"^temb\.dense\.0\.", r"time_embedding.linear_1."),
    (r"^temb\.dense\.1\.", r"time_embedding.linear_2."),
    (r"\bdown\.(\d+)\.block\.", r"down_blocks.\1.resnets."),
    (r"\bdown\.(\d+)\.attn\.", r"down_blocks.\1.attentions."),
    (r"\bdown\.(\d+)\.downsample\.", r"down_blocks.\1.downsamplers.0."),
    (r"\bup\.(\d+)\.block\.", r"up_blocks.\1.resnets."),
    (r"\bup\.(\d+)\.attn\.", r"up_blocks.\1.attentions."),
    (r"\bup\.(\d+)\.upsample\.", r"up_blocks.\1.upsamplers.0."),
    (r"\bmid\.block_1\.", r"mid_block.resnets.0."),
    (r"\bmid\.attn_1\.", r"mid_block.attentions.0."),
    (r"\bmid\.block_2\.", r"mid_block.resnets.1."),
    (r"\btemb_proj\.", r"time_emb_proj."),
    (r"\bnin_shortcut\.", r"conv_shortcut."),
    (r"\bnorm_out\.", r"conv_norm_out."),
    (r"(attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"(attentions\.\d+)\.([qkv])\.", r"\1.to_\2."),
    (r"(attentions\.\d+)\.proj_out\.", r"\1.to_out.0."),
]


def rename_ddpm(weights: Mapping[str, Tensor], levels: int) -> dict[str, Tensor]:
    """Weights of the DDPM code's UNet, or of a latent-diffusion autoencoder, with our names.

    Its up blocks are numbered from the largest; attention there is of 1x1 convolutions.
    """
    renamed = {}
    for name, value in weights.items():
        for pattern, replacement in DDPM_RULES:
            name = re.sub(pattern, replacement, name)
        name = re.sub(r"\bup_blocks\.(\d+)", lambda m: f"up_blocks.{levels - 1 - int(m[1])}", name)
        if re.search(r"attentions\.\d+\.to_", name) and value.shape[2:] == (1, 1):
            value = value[:, :, 0, 0]
        renamed[name] = value
    return renamed


OPEN_CLIP_RULES = [
    (r"^transformer\.resblocks\.", "encoder.layers."),
    (r"\.ln_1\.", ".layer_norm1."),
    (r"\.ln_2\.", ".layer_norm2."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^token_embedding\.", "embeddings.token_embedding."),
    (r"^ln_final\.", "final_layer_norm."),
]


def rename_open_clip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A text encoder of open_clip with the names of CLIPTextModel, without "text_model."."""
    renamed = {}
    for name, value in weights.items():
        if name in ("logit_scale", "attn_mask"):
            continue
        if name == "text_projection":
            matrix = value.T if value.ndim == 2 else value  # refused where sizes are read
            renamed["text_projection.weight"] = matrix.contiguous()
            continue
        for pattern, replacement in OPEN_CLIP_RULES:
            name = re.sub(pattern, replacement, name)
        if fused := re.match(r"(.*)\.attn\.in_proj_(weight|bias)$", name):
            if not value.ndim or not len(value) or len(value) % 3:
                raise SfumatoError(
                    f"text encoder: {fused[0]} is {tuple(value.shape)}, not three of a kind; the "
                    "file is damaged"
                )
            for letter, part in zip("qkv", torch.chunk(value, 3), strict=True):
                renamed[f"{fused[1]}.self_attn.{letter}_proj.{fused[2]}"] = part
            continue
        renamed[name] = value
    return renamed


def rename_text_model(weights: Mapping[str, Tensor], net: Any) -> dict[str, Tensor]:
    """Names with or without the prefix "text_model.", as the installed transformers has them."""
    expected = set(net.state_dict())
    renamed = {}
    for name, value in weights.items():
        bare = name.removeprefix("text_model.")
        renamed[bare if bare in expected else f"text_model.{bare}"] = value
    return renamed


def flat_name(name: str) -> str:
    """A layer's name without what tells its writers apart."""
    name = name.removeprefix("base_model.model.").removeprefix("text_model.")
    name = re.sub(r"self_attn\.to_([qkv])(_lora)?$", r"self_attn.\1_proj", name)
    name = re.sub(r"self_attn\.to_out(_lora)?$", "self_attn.out_proj", name)
    name = name.replace(".processor.", ".").replace("to_out_lora", "to_out.0")
    name = re.sub(r"(to_[qkv]|add_[kqv]_proj)_lora", r"\1", name)
    name = re.sub(r"\.to_out$", ".to_out.0", name)
    return name.replace(".", "_").removeprefix("text_model_")


KOHYA = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}


PARTS = ("unet", "transformer", "text_encoder_3", "text_encoder_2", "text_encoder")
"""Parts of a pipeline that an adapter may change; no name begins as a later one."""


def part_of(name: str) -> tuple[str, str]:
    """(part of the model, layer) of a layer's full name; a network's own names have no prefix."""
    for prefix, part in KOHYA.items():
        if name.startswith(prefix):
            return part, name.removeprefix(prefix)
    for part in PARTS:
        if name.startswith(f"{part}."):
            return part, name.removeprefix(f"{part}.")
    return "unet", name


@runtime_checkable
class Renamed(Protocol):
    """A network whose LoRA files have names of other programs too."""

    def lora_names(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The file's tensors by the layers' names in diffusers."""
        ...


def renamed(network: Renamed, tensors: Mapping[str, Tensor], file: Path) -> Mapping[str, Tensor]:
    """The tensors of a LoRA file by diffusers' names; SfumatoError where nobody knows theirs."""
    try:
        return network.lora_names(dict(tensors))
    except (KeyError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise SfumatoError(
            f"adapter {file.name}: its layers' names are of no program that is known here "
            f"({str(error)[:100]})"
        ) from None
