"""Checkpoints in one file: Stable Diffusion 1.x, 2.x and XL as their authors publish them, and the
DDPM networks of SDEdit's authors.

Their networks are those of diffusers, built from what the shapes tell; names are in key_names.py.
What no shape tells (heads, noise table) is that of the family. Such a file has no tokenizer: it is
looked for beside it (vocab.json and merges.txt, or a folder tokenizer) and in the hub's cache.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import Table
from sfumato.core.spaces import IDENTITY
from sfumato.models.devices import DTYPES, Choice
from sfumato.models.encoders import Encoder, Encoders
from sfumato.models.files import hub, key_names, pipeline
from sfumato.models.files.configs import Scheduler
from sfumato.models.latents import Latents
from sfumato.models.loaders import diffusers
from sfumato.models.model import Model

log = logging.getLogger("sfumato")

UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP_1, OPEN_CLIP_2 = "cond_stage_model.transformer.", "cond_stage_model.model."
XL_1, XL_2 = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
WORDS = "openai/clip-vit-large-patch14"
NEEDED = ("encoder.layers.0.mlp.fc1.weight", "embeddings.position_embedding.weight")
NO_TABLE = ("edm_vpred.sigma_max", "edm_vpred.sigma_min", "edm_mean", "edm_std")
"""Keys by which authors mark files of another noise than the family's."""
BESIDE = re.compile(
    r"model_ema\.|(?:v_pred|ztsnr|global_step|logvar)$"
    r"|(?:sqrt_|log_one_minus_|posterior_|alphas_cumprod|betas$|denoiser\.)"
)
"""What stands in the originals beside their parts: averages, tables, marks."""
BETAS, BARS = "betas", "alphas_cumprod"
LEAST, MOST = 2, 100_000
CLOSE = 1e-3
"""Relative, of tables that are one: they were summed up in float32 or float64."""
TINIEST = 1e-6
BLOCKS = re.compile(r"\b(?:down_blocks|up_blocks|mid_block)\.")
"""Without which a network would be another one."""
GROUPS = 32
OPEN_CLIP_LAYERS = 24
"""Of ViT-H's text side, whose last but one 2.x reads."""


def is_stable(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are a latent-diffusion checkpoint's."""
    return f"{UNET}input_blocks.0.0.weight" in weights


def is_ddpm(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are a DDPM UNet's of the original code."""
    return "temb.dense.0.weight" in weights and "down.0.block.0.conv1.weight" in weights


def load(path: Path, weights: Mapping[str, Tensor], choice: Choice) -> Model:
    """The model in a file of either family."""
    digest = pipeline.file_digest(path)
    if is_ddpm(weights):
        plain = Part({k: v for k, v in weights.items() if not BESIDE.match(k)})
        net = ddpm_unet(plain).to(choice.device, DTYPES[choice.dtype])
        scheduler = Scheduler(kind="DDPMScheduler", clip_sample=True)
        own = own_table(path, weights, scheduler)
        return diffusers.assembled(
            str(path), net, scheduler, IDENTITY, None, choice, digest,
            title="DDPM (SDEdit)", own=own,
        )  # fmt: skip
    if marks := [name for name in NO_TABLE if name in weights]:
        raise SfumatoError(
            f"{path.name}: is marked {marks[0]}, so its noise is no table; models of EDM and flow "
            "matching are not supported"
        )
    xl = f"{XL_2}token_embedding.weight" in weights
    if not xl and any(name.startswith("conditioner.embedders.0.model.") for name in weights):
        raise SfumatoError(f"{path.name}: XL's refiner is not supported, its base is")
    second = f"{OPEN_CLIP_2}token_embedding.weight" in weights
    kind = _prediction(path, weights, second)
    scheduler = Scheduler(
        kind="DDIMScheduler",
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type=kind,
        rescale_betas_zero_snr="ztsnr" in weights,
    )
    own = own_table(path, weights, scheduler)
    text = _encoders(path, weights, xl, second, choice)
    pooled = int(text.encoders[-1].network.config.projection_dim) if xl else 0
    if xl and f"{UNET}label_emb.0.0.weight" not in weights:
        raise SfumatoError(
            f"{path.name}: has XL's text encoders, but its network reads no sizes "
            "(label_emb is missing); the file is incomplete"
        )
    net = unet(_under(weights, UNET), None if xl or second else 8, pooled)
    side = 128 if xl else 96 if kind == "v_prediction" else 64
    net.register_to_config(sample_size=side)
    space = Latents.of(
        autoencoder(_under(weights, VAE), 0.13025 if xl else 0.18215).to(choice.device)
    )
    with pipeline.quiet():
        net = net.to(choice.device, DTYPES[choice.dtype])
    taken = (UNET, VAE, *((XL_1, XL_2) if xl else (OPEN_CLIP_2,) if second else (CLIP_1,)))
    if idle := [k for k in weights if not k.startswith(taken) and not BESIDE.match(k)]:
        log.warning("%s: %d weights of no part, not used: %s", path.name, len(idle), idle[0])
    return diffusers.assembled(str(path), net, scheduler, space, text, choice, digest, own=own)


def own_table(path: Path, weights: Mapping[str, Tensor], scheduler: Scheduler) -> Table | None:
    """The noise table that the file holds, where it is not its family's.

    Betas, since they keep their digits in half precision; else alphas_cumprod.
    """
    given = {name: weights[name] for name in (BETAS, BARS) if name in weights}
    if not given:
        return None
    made: dict[str, tuple[float, ...]] = {}
    for name, value in given.items():
        if value.ndim != 1 or not value.is_floating_point() or not LEAST <= len(value) <= MOST:
            raise SfumatoError(
                f"{path.name}: {name} is {value.dtype} {tuple(value.shape)}; a noise table is "
                f"{LEAST} to {MOST:,} floats"
            )
        bars = (1 - value.double()).cumprod(0) if name == BETAS else value.double()
        made[name] = (*map(float, bars[:-1]), max(float(bars[-1]), diffusers.ZERO))
    widest = max(torch.finfo(value.dtype).eps for value in given.values())
    near = max(CLOSE, 4 * widest)
    rounded = 0 if BARS not in given else 2 * torch.finfo(given[BARS].dtype).eps
    if len(made) == 2 and not _alike(made[BETAS], made[BARS], near, rounded):
        raise SfumatoError(
            f"{path.name}: {BETAS} and {BARS} are of two noise tables; it is damaged"
        )
    found = next(iter(made.values()))
    plain = scheduler.model_copy(update={"rescale_betas_zero_snr": False})
    rounded = 0 if BETAS in given else rounded
    if any(
        _alike(found, diffusers.table(one).alpha_bar, near, rounded) for one in (scheduler, plain)
    ):
        return None
    if rounded > CLOSE:
        raise SfumatoError(f"{path.name}: {BARS} has not the digits of a noise table of its own")
    try:
        own = Table(found)
    except SfumatoError:
        raise SfumatoError(
            f"{path.name}: {next(iter(given))} is no noise table, which falls from below 1 and "
            "stays above 0"
        ) from None
    log.info("%s: has a noise table of its own, %s", path.name, own)
    return own


def _alike(first: Sequence[float], second: Sequence[float], near: float, rounded: float) -> bool:
    """Whether two tables of alpha_bar agree, in alpha_bar and in 1 - alpha_bar; rounded: what the
    format of the numbers does to alpha_bar."""
    return len(first) == len(second) and all(
        abs(a - b) <= near * min(b, 1 - b) + rounded * b + TINIEST
        for a, b in zip(first, second, strict=True)
    )


def _prediction(
    path: Path, weights: Mapping[str, Tensor], second: bool
) -> Literal["epsilon", "v_prediction"]:
    """What the network predicts: no shape tells it."""
    if "v_pred" in weights:
        return "v_prediction"
    if not second:
        return "epsilon"
    if "768" in path.stem or "512" in path.stem:  # as the released 2.x files are called
        return "v_prediction" if "768" in path.stem else "epsilon"
    raise SfumatoError(
        f"{path.name}: Stable Diffusion 2.x, but nothing tells whether it predicts v (768 px) or "
        "eps (512 px); put 768 or 512 into its name"
    )


class Part(dict[str, Tensor]):
    """Weights of one part by name; one that is asked for and missing is said in a line."""

    def __missing__(self, name: str) -> Tensor:
        raise SfumatoError(f"weights: {name} is missing; the file is incomplete")


def _under(weights: Mapping[str, Tensor], prefix: str) -> Part:
    """The weights below a prefix, without it."""
    found = Part({k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)})
    if not found:
        raise SfumatoError(
            f"weights: nothing under {prefix}; the file holds only a part of a model"
        )
    return found


def _count(names: Mapping[str, Any], pattern: str) -> int:
    """One more than the highest number that the pattern finds."""
    return max((int(m[1]) for name in names if (m := re.match(pattern, name))), default=-1) + 1


def _filled(make: Any, weights: Mapping[str, Tensor], what: str) -> Any:
    """The network that `make` builds, with these weights; frozen, in float32."""
    with torch.device("meta"):
        net = make()
    wanted = net.state_dict()
    found = {name: value.float() for name, value in weights.items() if name in wanted}
    missing = [name for name in wanted if name not in found and not name.endswith("position_ids")]
    if missing:
        raise SfumatoError(
            f"{what}: {len(missing)} of its {len(wanted)} weights are missing, such as {missing[0]}"
        )
    wrong = next((n for n, v in found.items() if v.shape != wanted[n].shape), None)
    if wrong is not None:
        raise SfumatoError(
            f"{what}: {wrong} is {tuple(found[wrong].shape)}, not {tuple(wanted[wrong].shape)}"
        )
    extra = [name for name in weights if name not in wanted and "position_ids" not in name]
    if blocks := [name for name in extra if BLOCKS.search(name)]:
        raise SfumatoError(
            f"{what}: {len(blocks)} of its weights have no place in its family's layout, such as "
            f"{blocks[0]}"
        )
    if extra:
        log.warning("%s: %d unexpected weights, not used: %s", what, len(extra), extra[0])
    net.load_state_dict(found, strict=False, assign=True)
    for name, buffer in net.named_buffers():
        if buffer.is_meta:  # position ids are counted, not stored
            owner, _, leaf = name.rpartition(".")
            counted = torch.arange(buffer.shape[-1]).expand(buffer.shape)
            setattr(net.get_submodule(owner), leaf, counted)
    return net.eval().requires_grad_(False)


def _of(name: str) -> Any:
    """A class of diffusers, imported when it is needed."""
    import importlib

    return getattr(importlib.import_module("diffusers"), name)


def unet(weights: Mapping[str, Tensor], heads: int | None, pooled: int = 0) -> Any:
    """A UNet2DConditionModel by its shapes.

    heads: of every level, None for heads of width 64; pooled: width of the pooled text of XL.
    """
    down = _levels(weights)
    layers = [len(level) for level in down]
    widths = [weights[f"input_blocks.{level[0]}.0.in_layers.2.weight"].shape[0] for level in down]
    attended = [f"input_blocks.{level[0]}.1.norm.weight" in weights for level in down]
    depths = [_depth(weights, "input_blocks", level) for level in down]
    if not attended[-1]:  # the middle block's stands there
        depths[-1] = _count(weights, r"middle_block\.1\.transformer_blocks\.(\d+)\.") or 1
    ends = list(accumulate(count + 1 for count in reversed(layers)))
    up = [range(end - count - 1, end) for end, count in zip(ends, reversed(layers), strict=True)]
    rising = [
        _depth(weights, "output_blocks", level) if there else depth
        for level, there, depth in zip(up, reversed(attended), reversed(depths), strict=True)
    ]
    read = [v for k, v in weights.items() if k.endswith("attn2.to_k.weight")]
    flat = [v.ndim == 2 for k, v in weights.items() if k.endswith("1.proj_in.weight")]
    if not read or not flat:
        raise SfumatoError("unet: has no layers that read text; the file is incomplete")
    given: dict[str, Any] = {}
    if "label_emb.0.0.weight" in weights:
        size = weights["label_emb.0.0.weight"].shape[1]
        given = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (size - pooled) // 6,
            "projection_class_embeddings_input_dim": size,
        }
    if rising != depths[::-1]:
        given["reverse_transformer_layers_per_block"] = rising
    kinds = ["CrossAttnDownBlock2D" if there else "DownBlock2D" for there in attended]
    ups = ["CrossAttnUpBlock2D" if there else "UpBlock2D" for there in reversed(attended)]

    def make() -> Any:
        return _of("UNet2DConditionModel")(
            in_channels=weights["input_blocks.0.0.weight"].shape[1],
            out_channels=weights["out.2.weight"].shape[0],
            block_out_channels=tuple(widths),
            layers_per_block=layers[0] if len(set(layers)) == 1 else tuple(layers),
            down_block_types=tuple(kinds),
            up_block_types=tuple(ups),
            cross_attention_dim=read[0].shape[1],
            transformer_layers_per_block=tuple(depths),
            attention_head_dim=heads or tuple(max(width // 64, 1) for width in widths),
            use_linear_projection=flat[0],
            norm_num_groups=min(GROUPS, widths[0]),
            **given,
        )

    with torch.device("meta"):
        names = key_names.sgm_names(make())
    known = set(names.values())
    if extra := [name for name in weights if name not in known]:
        raise SfumatoError(
            f"unet: {len(extra)} of its weights have no place in Stable Diffusion's layout, such "
            f"as {extra[0]}; load it as a folder of diffusers"
        )
    return _filled(
        make, {ours: weights[sgm] for ours, sgm in names.items() if sgm in weights}, "unet"
    )


def _levels(weights: Mapping[str, Tensor]) -> list[list[int]]:
    """Numbers of the residual blocks of each level on the way down."""
    found: list[list[int]] = [[]]
    for n in range(1, _count(weights, r"input_blocks\.(\d+)\.")):
        if f"input_blocks.{n}.0.op.weight" in weights:
            found.append([])
        else:
            found[-1].append(n)
    if not all(found):
        raise SfumatoError("unet: a level has no residual blocks; the file is incomplete")
    return found


def _depth(weights: Mapping[str, Tensor], way: str, level: Sequence[int]) -> int | list[int]:
    """Transformer blocks of each attention of a level; one number where they agree."""
    found = [_count(weights, rf"{way}\.{n}\.1\.transformer_blocks\.(\d+)\.") or 1 for n in level]
    return found[0] if len(set(found)) == 1 else found


def autoencoder(weights: Mapping[str, Tensor], scale: float) -> Any:
    """An AutoencoderKL by its shapes."""
    levels = _count(weights, r"encoder\.down\.(\d+)\.")
    widths = [weights[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in range(levels)]
    if not levels:
        raise SfumatoError("autoencoder: its encoder is missing; the file is incomplete")
    latent = weights["post_quant_conv.weight"].shape[0]
    seen = {weights["encoder.conv_in.weight"].shape[1], weights["decoder.conv_out.weight"].shape[0]}
    if seen != {3}:
        raise SfumatoError(f"autoencoder: has {max(seen)} channels; only RGB is supported")

    def make() -> Any:
        return _of("AutoencoderKL")(
            block_out_channels=tuple(widths),
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=_count(weights, r"encoder\.down\.0\.block\.(\d+)\."),
            latent_channels=latent,
            norm_num_groups=min(GROUPS, widths[0]),
            scaling_factor=scale,
        )

    return _filled(make, key_names.ddpm_renamed(weights, levels), "autoencoder")


def ddpm_unet(weights: Mapping[str, Tensor], side: int | None = None) -> Any:
    """A UNet2DModel of the DDPM code's weights. side: of its pictures; they attend at 16 px."""
    levels = _count(weights, r"down\.(\d+)\.")
    attended = [f"down.{i}.attn.0.q.weight" in weights for i in range(levels)]
    widths = [weights[f"down.{i}.block.0.conv1.weight"].shape[0] for i in range(levels)]
    kinds = ["AttnDownBlock2D" if there else "DownBlock2D" for there in attended]
    ups = ["AttnUpBlock2D" if there else "UpBlock2D" for there in reversed(attended)]
    if side is None:
        side = 16 * 2 ** attended.index(True) if any(attended) else 256

    def make() -> Any:
        return _of("UNet2DModel")(
            sample_size=side,
            in_channels=weights["conv_in.weight"].shape[1],
            out_channels=weights["conv_out.weight"].shape[0],
            block_out_channels=tuple(widths),
            layers_per_block=_count(weights, r"down\.0\.block\.(\d+)\."),
            down_block_types=tuple(kinds),
            up_block_types=tuple(ups),
            attention_head_dim=None,
            downsample_padding=0,
            flip_sin_to_cos=False,
            freq_shift=1,
            norm_eps=1e-6,
            norm_num_groups=min(GROUPS, widths[0]),
        )

    return _filled(make, key_names.ddpm_renamed(weights, levels), "DDPM network")


def _encoders(
    path: Path, weights: Mapping[str, Tensor], xl: bool, second: bool, choice: Choice
) -> Encoders:
    """The text encoders of a family."""
    device, dtype = choice.device, DTYPES[choice.dtype]
    made = []
    if not second:
        first = text_encoder(_under(weights, XL_1 if xl else CLIP_1), "quick_gelu")
        layer: Any = "second" if xl else "last"
        made.append(Encoder(tokenizer(path, first), first.to(device, dtype), layer))
    if second or xl:
        renamed = key_names.open_clip_renamed(_under(weights, XL_2 if xl else OPEN_CLIP_2))
        spare = not xl and _has_spare(weights)
        other = text_encoder(renamed, "gelu", projected=xl, drop_last=spare)
        layer = "second" if xl else "last"
        made.append(Encoder(tokenizer(path, other, "!"), other.to(device, dtype), layer))
    return Encoders(tuple(made), zeros=xl)


def _has_spare(weights: Mapping[str, Tensor]) -> bool:
    """Whether a file of 2.x has all layers of its CLIP, of which the last is not read.

    The originals hold open_clip's whole text side, its projection too; copies written back from
    diffusers' layers lack the last one.
    """
    layers = _count(weights, r"cond_stage_model\.model\.transformer\.resblocks\.(\d+)\.")
    whole = f"{OPEN_CLIP_2}text_projection" in weights and layers != OPEN_CLIP_LAYERS - 1
    return whole or layers == OPEN_CLIP_LAYERS


def text_encoder(
    weights: Mapping[str, Tensor], act: str, *, projected: bool = False, drop_last: bool = False
) -> Any:
    """A CLIP text encoder by its shapes. drop_last: of 2.x, which reads the second last layer."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    plain = {name.removeprefix("text_model."): value for name, value in weights.items()}
    if "embeddings.token_embedding.weight" not in plain:
        raise SfumatoError("text encoder: its token embedding is missing; the file is incomplete")
    vocabulary, width = plain["embeddings.token_embedding.weight"].shape
    layers = _count(plain, r"encoder\.layers\.(\d+)\.")
    if drop_last:
        layers -= 1
        plain = {k: v for k, v in plain.items() if not k.startswith(f"encoder.layers.{layers}.")}
    if not projected:  # of the whole CLIP; nothing here reads it
        plain.pop("text_projection.weight", None)
        plain.pop("text_projection", None)
    needed = (*NEEDED, "text_projection.weight") if projected else NEEDED
    if missing := [k for k in needed if k not in plain]:
        raise SfumatoError(f"text encoder: {missing[0]} is missing; the file is incomplete")
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=plain["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=layers,
        num_attention_heads=max(width // 64, 1),
        max_position_embeddings=plain["embeddings.position_embedding.weight"].shape[0],
        hidden_act=act,
        projection_dim=plain["text_projection.weight"].shape[0] if projected else width,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    cls = CLIPTextModelWithProjection if projected else CLIPTextModel

    def make() -> Any:
        return cls(config)

    with torch.device("meta"):
        named = key_names.with_text_model(plain, make())
    if "text_projection.weight" in plain:
        named["text_projection.weight"] = named.pop(
            "text_model.text_projection.weight", plain["text_projection.weight"]
        )
    return _filled(make, named, "text encoder")


def tokenizer(path: Path, network: Any, pad: str | None = None) -> Any:
    """CLIP's tokenizer for a single file's text encoder; pad: the token that fills the context, if
    not the end."""
    folders = [path.parent / "tokenizer", path.parent, hub.find(WORDS)]
    for folder in folders:
        if folder is None:
            continue
        # a tokenizer.json beside the file may be any model's
        names = ("vocab.json",) if folder == path.parent else ("vocab.json", "tokenizer.json")
        if any((folder / name).is_file() for name in names):
            made = pipeline.tokenizer(folder)
            if pad is not None:
                made.pad_token = pad
            pipeline.check_tokens(made, int(network.config.vocab_size), folder)
            return made
    raise SfumatoError(
        f"{path.name}: needs CLIP's vocabulary; put its vocab.json and merges.txt beside the file, "
        f"or `sfumato models pull {WORDS}`"
    )
