"""Hunyuan-DiT (arXiv 2405.08748): its transformer as a network; BERT and mT5 read prompts.

Rows behind a prompt's end are learned ones. What it says of its variance is not read, as in the
pipeline of its authors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.denoiser import Cond, Traits
from sfumato.core.errors import SfumatoError, quoted
from sfumato.models.bert import Bert
from sfumato.models.card import Defaults
from sfumato.models.encoders import LOCK
from sfumato.models.files import transformers
from sfumato.models.files.spans import Spans
from sfumato.models.guest import Guest
from sfumato.models.loaders.pipeline_parts import PipelineParts
from sfumato.models.loaders.tabled import Tabled
from sfumato.models.t5 import T5

CLASS = "HunyuanDiT2DModel"
SIDE = 64  # cells of the square that its places were first trained on
ORIGINAL = (1024, 1024)  # height and width that its first versions are told of their pictures
THETA = 1e4
OWN = re.compile(
    r"^(?:base_model\.model\.|lora_unet_)?(?:blocks[._](?P<block>\d+)[._])?(?P<layer>[\w.]+?)"
    r"(?P<end>\.(?:lora_|alpha).*)$"
)
DOWN = (".lora_A", ".lora_down")
LAYERS: Mapping[str, tuple[str, ...]] = {
    "attn1_Wqkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "attn1_out_proj": ("attn1.to_out.0",),
    "attn2_q_proj": ("attn2.to_q",),
    "attn2_kv_proj": ("attn2.to_k", "attn2.to_v"),
    "attn2_out_proj": ("attn2.to_out.0",),
    "mlp_fc1": ("ff.net.0.proj",),
    "mlp_fc2": ("ff.net.2",),
    "default_modulation_1": ("norm1.linear",),
    "pooler_q_proj": ("time_extra_emb.pooler.q_proj",),
    "pooler_k_proj": ("time_extra_emb.pooler.k_proj",),
    "pooler_v_proj": ("time_extra_emb.pooler.v_proj",),
    "pooler_c_proj": ("time_extra_emb.pooler.c_proj",),
    "x_embedder_proj": ("pos_embed.proj",),
    "mlp_t5_0": ("text_embedder.linear_1",),
    "mlp_t5_2": ("text_embedder.linear_2",),
    "t_embedder_mlp_0": ("time_extra_emb.timestep_embedder.linear_1",),
    "t_embedder_mlp_2": ("time_extra_emb.timestep_embedder.linear_2",),
    "extra_embedder_0": ("time_extra_emb.extra_embedder.linear_1",),
    "extra_embedder_2": ("time_extra_emb.extra_embedder.linear_2",),
    "final_layer_linear": ("proj_out",),
}
"""Layers of its authors' program, dots as underscores, by those of diffusers'."""


@dataclass(frozen=True, eq=False)
class Network(Guest):
    """HunyuanDiT2DModel. Conditions: "context" (B, L, D) of BERT, "rows" (B, M, E) of mT5, "mask"
    (B, L + M): rows of words. Its first versions are told sizes, too."""

    told: transformers.Hunyuan

    def __call__(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor:
        context, mask = cond["context"].to(self.dtype), cond["mask"]
        meta, style = None, None
        if self.config.stride is not None:
            height, width = (side * self.config.stride for side in x.shape[-2:])
            meta = torch.tensor([[*ORIGINAL, height, width, 0, 0]], device=x.device)
            meta = meta.expand(len(x), 6).to(self.dtype)
            style = torch.zeros(len(x), dtype=torch.long, device=x.device)
        patch = self.told.patch_size
        output: Tensor = self.net(
            x.to(self.dtype),
            time.to(self.dtype),
            encoder_hidden_states=context,
            text_embedding_mask=mask[:, : context.shape[1]],
            encoder_hidden_states_t5=cond["rows"].to(self.dtype).contiguous(),  # it is viewed
            text_embedding_mask_t5=mask[:, context.shape[1] :],
            image_meta_size=meta,
            style=style,
            image_rotary_emb=rotary(
                self.told.attention_head_dim,
                x.shape[-2] // patch,
                x.shape[-1] // patch,
                SIDE // patch,
                x.device,
            ),
        ).sample
        return output[:, : x.shape[1]]

    def lora_names(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Files of its authors' program, and of kohya's scripts, have its own layers' names."""
        renamed: dict[str, Tensor] = {}
        for name, value in tensors.items():
            matched = OWN.match(name)
            targets = LAYERS.get(matched["layer"].replace(".", "_")) if matched else None
            if matched is None or targets is None:
                renamed[name] = value
                continue
            place = "" if matched["block"] is None else f"blocks.{matched['block']}."
            whole = name.endswith(".alpha") or any(part in matched["end"] for part in DOWN)
            parts = [value] * len(targets) if whole else value.chunk(len(targets))
            for target, part in zip(targets, parts, strict=True):
                renamed[f"{place}{target}{matched['end']}"] = part
        return renamed


def rotary(
    width: int, rows: int, columns: int, side: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(rows columns, width) cosines and sines of each token's column and row, in a grid that is
    laid into the middle of a square."""
    inner = (side, round(side / rows * columns)) if rows > columns else (
        round(side / columns * rows), side
    )  # fmt: skip
    places = []
    for count, length in zip((rows, columns), inner, strict=True):
        first = round((side - length) / 2)
        last = (first + length) * (count - 1) / count
        places.append(torch.linspace(first, last, count, device=device))
    down, across = torch.meshgrid(*places, indexing="ij")
    powers = torch.arange(0, width // 2, 2, device=device, dtype=torch.float32) / (width // 2)
    angles = [torch.outer(place.flatten(), 1 / THETA**powers) for place in (across, down)]
    doubled = torch.cat([one.repeat_interleave(2, dim=1) for one in angles], dim=1)
    return doubled.cos(), doubled.sin()


@dataclass(frozen=True, eq=False)
class Prompts:
    """BERT reads the first rows of a prompt, mT5 all of it."""

    bert: Bert
    t5: T5

    def __call__(self, texts: Sequence[str], beside: Sequence[str] = ()) -> Cond:
        for text in texts:
            if self.t5.rows_of([text]) > self.t5.length:
                raise SfumatoError(
                    f"prompt {quoted(text)}: has {self.t5.rows_of([text])} tokens with its end, "
                    f"this model reads {self.t5.length}; shorten it"
                )
        with LOCK:
            pairs = [self.bert.encode(text) for text in texts]
            rows = torch.stack([self.t5.encode(text, self.t5.length) for text in texts])
        words = torch.tensor([self.t5.rows_of([text], least=1) for text in texts])
        behind = (torch.arange(self.t5.length) < words[:, None]).to(rows.device)
        context, masks = (torch.stack(list(parts)) for parts in zip(*pairs, strict=True))
        return Cond({"context": context, "rows": rows, "mask": torch.cat([masks, behind], dim=1)})

    def spans(self, text: str, beside: Sequence[str] = ()) -> Spans:
        """Which characters stand behind each of mT5's rows; of BERT's none is told."""
        return (*[None] * self.bert.rows, *self.t5.spans(text, self.t5.length))


def load(parts: PipelineParts) -> Tabled:
    """The parts of a pipeline's folder."""
    config = parts.sizes(transformers.Hunyuan)
    if config.attention_head_dim % 4:
        raise SfumatoError(
            f"{parts.folder}: attention_head_dim {config.attention_head_dim} is no multiple of 4"
        )
    if config.num_layers % 2:
        raise SfumatoError(f"{parts.folder}: num_layers {config.num_layers} must be even")
    net = parts.transformer()
    bert = parts.bert(config.text_len)
    t5 = parts.t5("text_encoder_2", config.text_len_t5, masked=True)
    stride = 8 if config.use_style_cond_and_image_meta_size else None
    return Tabled(
        Network(net, Traits(stride=stride), config),
        Prompts(bert, t5),
        title="Hunyuan-DiT",
        outputs=config.in_channels,
        cells=config.sample_size,
        patch=config.patch_size,
        defaults=Defaults(25, "dpmpp-2m", methods=({"method": "cfg", "scale": 5.0},)),
    )
