"""Tiny pipelines of the diffusers family with random weights, in the layout that the hub has."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato as sf

STRIDE = 4  # of the tiny autoencoder


def each_once(
    factory: pytest.TempPathFactory, build: Callable[[Path, str], Any], name: str = "pipeline"
) -> Callable[[str], tuple[Any, sf.Model]]:
    """kind -> (pipeline, our model of its folder), each built when it is first asked for.

    build: writes the pipeline of a kind into the folder `name` of a folder.
    """

    @cache
    def built(kind: str) -> tuple[Any, sf.Model]:
        folder = factory.mktemp(kind)
        pipe = build(folder, kind)
        return pipe, sf.load(str(folder / name), dtype="float32")

    return built


def words(folder: Path) -> Path:
    """A CLIP tokenizer of single bytes and a few merges."""
    folder.mkdir(parents=True, exist_ok=True)
    from transformers.models.clip.tokenization_clip import CLIPTokenizer  # noqa: F401

    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(i) for i in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    merges = [("r", "e"), ("re", "d</w>"), ("c", "a"), ("ca", "t</w>")]
    vocabulary = letters + [letter + "</w>" for letter in letters]
    vocabulary += ["".join(pair) for pair in merges]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(vocabulary)}))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    return folder


def tokenizer(folder: Path, **options: Any) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(words(folder), model_max_length=16, **options)


def scrambled(net: Any, seed: int) -> Any:
    """Random weights everywhere, also where layers start at zero; the same for a seed always."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 100
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1 or name.endswith("bias"):  # they start at random
                parameter.copy_(noise * fan**-0.5)
            else:  # about what a norm starts at
                parameter.add_(noise * 0.05)
    return net.eval()


def autoencoder(
    channels: int = 4, widths: tuple[int, ...] = (8, 8, 16), groups: int = 4, scale: float = 0.18215
) -> Any:
    """Without noise in its posterior, so that sampling it is taking its mode."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=channels,
        norm_num_groups=groups,
        sample_size=32,
        scaling_factor=scale,
    )
    scrambled(vae, 1)
    with torch.no_grad():  # posterior of variance e^-30
        vae.quant_conv.weight[channels:] = 0
        vae.quant_conv.bias[channels:] = -100
    return vae


def tiny_autoencoder() -> Any:
    """Of the same latents as the full one."""
    from diffusers import AutoencoderTiny

    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1),
    )  # fmt: skip
    return scrambled(tiny, 4)


def encoder(
    width: int, projected: bool = False, layers: int = 2, heads: int = 2, **options: Any
) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    size = 256 * 2 + 4 + 2
    config = CLIPTextConfig(
        vocab_size=size, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=heads, max_position_embeddings=16, projection_dim=width,
        bos_token_id=size - 2, eos_token_id=size - 1, pad_token_id=size - 1, **options,
    )  # fmt: skip
    return scrambled((CLIPTextModelWithProjection if projected else CLIPTextModel)(config), width)


def unet(context: int, inputs: int = 4, widths: tuple[int, int] = (16, 32), **options: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return scrambled(
        UNet2DConditionModel(
            sample_size=8, in_channels=inputs, out_channels=4, block_out_channels=widths,
            cross_attention_dim=context,
            **{
                "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
                "attention_head_dim": 2, "layers_per_block": 1, "norm_num_groups": 8, **options,
            },
        ),
        3,
    )  # fmt: skip


def scheduler(**options: Any) -> Any:
    """As Stable Diffusion's own configuration."""
    from diffusers import PNDMScheduler

    return PNDMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, skip_prk_steps=True,
        set_alpha_to_one=False, steps_offset=1, **options,
    )  # fmt: skip


def t5(folder: Path, width: int) -> tuple[Any, Any]:
    """T5's encoder and a tokenizer of single letters and a few pieces, saved to the folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -3.0), ("\u2581red", -1.0),
              ("\u2581cat", -1.0), *((chr(code), -4.0) for code in range(97, 123))]  # fmt: skip
    raw = Tokenizer(models.Unigram(pieces, unk_id=2))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    raw.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    raw.save(str(folder / "tokenizer.json"))
    tokens = T5TokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), eos_token="</s>", unk_token="<unk>",
        pad_token="<pad>", extra_ids=0,
    )  # fmt: skip
    config = T5Config(
        vocab_size=len(pieces),
        d_model=width,
        d_kv=8,
        d_ff=2 * width,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return scrambled(T5EncoderModel(config), 6), tokens


def qwen3(folder: Path, width: int, layers: int = 3, ending: str = "") -> tuple[Any, Any]:
    """Qwen3 and a tokenizer of single bytes with its chat template, saved to the folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({letter: k for k, letter in enumerate(letters)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    folder.mkdir(parents=True, exist_ok=True)
    raw.save(str(folder / "tokenizer.json"))
    tokens = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token="<|endoftext|>",
        eos_token="<|im_end|>", padding_side="right",
    )  # fmt: skip
    tokens.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
        + ending
        + "{% endif %}"
    )
    config = Qwen3Config(
        vocab_size=264, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, max_position_embeddings=1024,
    )  # fmt: skip
    return scrambled(Qwen3Model(config), 7), tokens


def gemma2(folder: Path, width: int) -> tuple[Any, Any]:
    """Gemma 2 and a tokenizer of single bytes, saved to the folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import Gemma2Config, Gemma2Model, PreTrainedTokenizerFast

    special = ["<pad>", "<eos>", "<bos>"]
    letters = special + sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({letter: k for k, letter in enumerate(letters)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(special)
    raw.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 2)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    raw.save(str(folder / "tokenizer.json"))
    tokens = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), bos_token="<bos>", eos_token="<eos>",
        pad_token="<pad>", padding_side="right",
    )  # fmt: skip
    config = Gemma2Config(
        vocab_size=264, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, max_position_embeddings=4096,
        query_pre_attn_scalar=8,
    )  # fmt: skip
    return scrambled(Gemma2Model(config), 7), tokens


def qwen2_vl(width: int) -> Any:
    """Qwen2.5-VL, whose words alone are read."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 264, "hidden_size": width, "intermediate_size": 2 * width,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
            "max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6,
                                "mrope_section": [2, 2, 2]},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2,
            "out_hidden_size": width, "fullatt_block_indexes": [0],
        },
        image_token_id=260, video_token_id=261, vision_start_token_id=262, vision_end_token_id=263,
    )  # fmt: skip
    return scrambled(Qwen2_5_VLForConditionalGeneration(config), 7)


def frames_autoencoder() -> Any:
    """Qwen-Image's, of one frame."""
    from diffusers import AutoencoderKLQwenImage

    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 2], num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[0.8, 1.1, 0.9, 1.2],
    )  # fmt: skip
    scrambled(vae, 1)
    with torch.no_grad():  # posterior of variance e^-30
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = -30
    return vae


FLOWS = (
    "sd3", "sd3-without-t5", "sd3-wide", "flux-dev", "flux-schnell", "zimage", "zimage-turbo",
    "qwen", "flux2", "flux2-base", "sana", "sana-euler", "sana-sprint",
)  # fmt: skip


def pixart(folder: Path, side: int = 8) -> Any:
    """PixArt-Sigma's pipeline, saved to the folder; side: cells that it was trained on."""
    import diffusers

    text, tokens = t5(folder / "pieces", 80)
    pipe = diffusers.PixArtSigmaPipeline(
        vae=autoencoder(), text_encoder=text, tokenizer=tokens,
        scheduler=diffusers.DPMSolverMultistepScheduler(beta_schedule="linear"),
        transformer=scrambled(diffusers.PixArtTransformer2DModel(
            sample_size=side, num_layers=2, attention_head_dim=8, num_attention_heads=2,
            in_channels=4, out_channels=8, cross_attention_dim=16, caption_channels=80,
        ), 3),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder / "pipeline")
    return pipe


def hunyuan(folder: Path, told_sizes: bool) -> Any:
    """Hunyuan-DiT's pipeline, saved to the folder; told_sizes: of its first versions."""
    import diffusers
    from transformers import BertConfig, BertModel, BertTokenizer

    (folder / "words").mkdir(parents=True)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "cat", "\u732b"]
    letters = [chr(code) for code in range(97, 123)]
    file = folder / "words" / "vocab.txt"
    lines = [*pieces, *letters, *(f"##{letter}" for letter in letters)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    bert = BertConfig(
        vocab_size=len(lines), hidden_size=24, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=77,
    )  # fmt: skip
    text, tokens = t5(folder / "pieces", 80)
    pipe = diffusers.HunyuanDiTPipeline(
        vae=autoencoder(), text_encoder=scrambled(BertModel(bert), 8),
        tokenizer=BertTokenizer(str(file)), text_encoder_2=text, tokenizer_2=tokens,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        scheduler=diffusers.DDPMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.03,
            prediction_type="v_prediction",
        ),
        transformer=scrambled(diffusers.HunyuanDiT2DModel(
            sample_size=8, num_layers=4, patch_size=2, attention_head_dim=8, num_attention_heads=2,
            hidden_size=16, in_channels=4, cross_attention_dim=24, cross_attention_dim_t5=80,
            pooled_projection_dim=16, use_style_cond_and_image_meta_size=told_sizes,
        ), 3),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder / "pipeline")
    file.replace(folder / "pipeline" / "tokenizer" / "vocab.txt")  # as the released one has it
    return pipe


def channels_of(kind: str) -> int:
    """Of a pipeline's latents."""
    return 16 if kind.endswith("wide") or kind.startswith("flux2") else 4


def flow(folder: Path, kind: str) -> Any:
    """A pipeline of FLOWS, saved to the folder; "wide" has latents of 16 channels."""
    import diffusers

    family, _, variant = kind.partition("-")
    channels = channels_of(kind)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 16), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=channels,
        norm_num_groups=4, sample_size=32, scaling_factor=1.5, shift_factor=0.06,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    scrambled(vae, 1)
    with torch.no_grad():  # posterior of variance e^-30
        vae.encoder.conv_out.weight[channels:] = 0
        vae.encoder.conv_out.bias[channels:] = -30
    text, tokens = t5(folder / "pieces", 80)
    parts: dict[str, Any] = {"vae": vae, "tokenizer": tokenizer(folder / "words")}
    if family == "sd3":
        parts |= {
            "text_encoder": encoder(32, projected=True),
            "text_encoder_2": encoder(48, projected=True),
            "tokenizer_2": tokenizer(folder / "words2", pad_token="!"),
            "text_encoder_3": None if variant == "without-t5" else text,
            "tokenizer_3": None if variant == "without-t5" else tokens,
            "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            "transformer": scrambled(diffusers.SD3Transformer2DModel(
                sample_size=8, patch_size=2, in_channels=channels, out_channels=channels,
                num_layers=2, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=80,
                caption_projection_dim=16, pooled_projection_dim=80, pos_embed_max_size=16,
                qk_norm="rms_norm", dual_attention_layers=(0,),
            ), 3),
        }  # fmt: skip
        pipe = diffusers.StableDiffusion3Pipeline(**parts)
    elif family == "zimage":
        del parts["tokenizer"]
        text, tokens = qwen3(folder / "letters", 24)
        parts |= {
            "text_encoder": text, "tokenizer": tokens,
            "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0 if variant else 6.0),
            "transformer": scrambled(diffusers.ZImageTransformer2DModel(
                in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2,
                cap_feat_dim=24, axes_dims=[4, 6, 6], axes_lens=[600, 32, 32],
            ), 3),
        }  # fmt: skip
        pipe = diffusers.ZImagePipeline(**parts)
    elif family == "flux2":
        text, tokens = qwen3(folder / "letters", 16, 27, "<think>\n\n</think>\n\n")
        vae = diffusers.AutoencoderKLFlux2(
            block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4,
            sample_size=32,
        )  # fmt: skip
        scrambled(vae, 1)
        with torch.no_grad():
            vae.bn.running_mean.add_(torch.linspace(-0.3, 0.3, 16))
            vae.bn.running_var.mul_(torch.linspace(0.7, 1.4, 16))
        parts = {
            "vae": vae, "text_encoder": text, "tokenizer": tokens,
            "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(
                shift=3.0, use_dynamic_shifting=True
            ),
            "transformer": scrambled(diffusers.Flux2Transformer2DModel(
                in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
                num_attention_heads=2, joint_attention_dim=48, timestep_guidance_channels=32,
                axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
            ), 3),
        }  # fmt: skip
        pipe = diffusers.Flux2KleinPipeline(**parts, is_distilled=not variant)
    elif family == "sana":
        text, tokens = gemma2(folder / "letters", 24)
        levels: Any = {"block_out_channels": (8, 8, 16), "layers_per_block": (1, 1, 1),
                       "qkv_multiscales": ((), (), (5,))}  # fmt: skip
        parts = {
            "vae": scrambled(diffusers.AutoencoderDC(
                latent_channels=4, attention_head_dim=8, scaling_factor=0.8,
                encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
                decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
                **{f"{side}_{k}": v for side in ("encoder", "decoder") for k, v in levels.items()},
            ), 1),
            "text_encoder": text, "tokenizer": tokens,
            "scheduler": diffusers.SCMScheduler() if variant == "sprint"
            else diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0) if variant
            else diffusers.DPMSolverMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
            ),
            "transformer": scrambled(diffusers.SanaTransformer2DModel(
                in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8,
                num_layers=2, num_cross_attention_heads=2, cross_attention_head_dim=8,
                cross_attention_dim=16, caption_channels=24, sample_size=8,
                **({"guidance_embeds": True, "qk_norm": "rms_norm_across_heads"}
                   if variant == "sprint" else {}),
            ), 3),
        }  # fmt: skip
        kind = diffusers.SanaSprintPipeline if variant == "sprint" else diffusers.SanaPipeline
        pipe = kind(**parts)
    elif family == "qwen":
        _, tokens = qwen3(folder / "letters", 24)
        parts = {
            "vae": frames_autoencoder(), "tokenizer": tokens, "text_encoder": qwen2_vl(24),
            "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(
                use_dynamic_shifting=True, base_image_seq_len=4, max_image_seq_len=64,
                max_shift=0.9, shift_terminal=0.02,
            ),
            "transformer": scrambled(diffusers.QwenImageTransformer2DModel(
                in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16,
                num_attention_heads=2, joint_attention_dim=24, axes_dims_rope=(4, 6, 6),
            ), 3),
        }  # fmt: skip
        pipe = diffusers.QwenImagePipeline(**parts)
    else:
        dev = variant != "schnell"
        tokens_of = 4 * channels
        known = tokens_of + 4 * STRIDE**2 if variant == "fill" else 0
        parts |= {
            "text_encoder": encoder(32), "text_encoder_2": text, "tokenizer_2": tokens,
            "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(
                shift=3.0 if dev else 1.0, use_dynamic_shifting=dev, base_image_seq_len=4,
                max_image_seq_len=64,
            ),
            "transformer": scrambled(diffusers.FluxTransformer2DModel(
                patch_size=1, in_channels=tokens_of + known, num_layers=1, num_single_layers=1,
                out_channels=tokens_of if known else None,
                attention_head_dim=16, num_attention_heads=2, joint_attention_dim=80,
                pooled_projection_dim=32, guidance_embeds=dev, axes_dims_rope=(4, 4, 8),
            ), 3),
        }  # fmt: skip
        name = {"fill": "FluxFillPipeline", "kontext": "FluxKontextPipeline"}
        pipe = getattr(diffusers, name.get(variant, "FluxPipeline"))(**parts)
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder / "pipeline")
    return pipe


def stable(folder: Path, kind: str) -> Any:
    """The pipeline "sd1", "sd2-v", "sdxl", "sd1-inpaint" or "sdxl-inpaint", saved to the folder."""
    import diffusers

    family, _, tuned = kind.partition("-")
    inputs = 9 if tuned == "inpaint" else 4
    parts: dict[str, Any] = {
        "vae": autoencoder(),
        "tokenizer": tokenizer(folder / "words"),
        "scheduler": scheduler(prediction_type="v_prediction" if tuned == "v" else "epsilon"),
    }
    if family == "sdxl":
        parts["text_encoder"] = encoder(32)
        parts["text_encoder_2"] = encoder(48, projected=True)
        parts["tokenizer_2"] = tokenizer(folder / "words2", pad_token="!")
        parts["unet"] = unet(
            80, inputs, addition_embed_type="text_time", addition_time_embed_dim=8,
            transformer_layers_per_block=1, projection_class_embeddings_input_dim=48 + 6 * 8,
            use_linear_projection=True, attention_head_dim=(2, 4),
        )  # fmt: skip
        name = "StableDiffusionXL"
    else:
        parts["text_encoder"] = encoder(32, hidden_act="gelu" if family == "sd2" else "quick_gelu")
        linear = {"use_linear_projection": True} if family == "sd2" else {}
        parts["unet"] = unet(32, inputs, **linear)
        parts |= {"safety_checker": None, "feature_extractor": None}
        name = "StableDiffusion"
    cls = getattr(diffusers, name + ("InpaintPipeline" if tuned == "inpaint" else "Pipeline"))
    extra = {"requires_safety_checker": False} if family != "sdxl" else {}
    pipe = cls(**parts, **extra)
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder / "pipeline")
    return pipe


def single(folder: Path, kind: str) -> Any:
    """A pipeline "sd1", "sd2" or "sdxl" whose sizes follow the family's rules for heads and groups,
    as they must where only shapes tell them."""
    import diffusers

    clip = {"layers": 2, "heads": 1}
    groups = {"widths": (32, 64), "norm_num_groups": 32, "layers_per_block": 2}
    scale = 0.13025 if kind == "sdxl" else 0.18215
    parts: dict[str, Any] = {"vae": autoencoder(widths=(32, 32, 64), groups=32, scale=scale)}
    parts["scheduler"] = scheduler(prediction_type="v_prediction" if kind == "sd2" else "epsilon")
    parts["tokenizer"] = tokenizer(
        folder / "words", **({"pad_token": "!"} if kind == "sd2" else {})
    )
    if kind == "sdxl":
        parts["text_encoder"] = encoder(64, **clip)
        parts["text_encoder_2"] = encoder(
            128, projected=True, **{**clip, "heads": 2}, hidden_act="gelu"
        )
        parts["tokenizer_2"] = tokenizer(folder / "words2", pad_token="!")
        parts["unet"] = unet(
            192, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=128 + 6 * 8, use_linear_projection=True,
            attention_head_dim=(1, 1), transformer_layers_per_block=(2, 3), **groups,
        )  # fmt: skip
        pipe = diffusers.StableDiffusionXLPipeline(**parts)
    else:
        act = "gelu" if kind == "sd2" else "quick_gelu"
        parts["text_encoder"] = encoder(64, **clip, hidden_act=act)
        linear = {"use_linear_projection": True, "attention_head_dim": (1, 1)}
        heads = linear if kind == "sd2" else {"attention_head_dim": 8}
        parts["unet"] = unet(64, **heads, **groups)
        parts |= {"safety_checker": None, "feature_extractor": None}
        pipe = diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipe.save_pretrained(folder / "pipeline")
    return pipe


def refiner(base: Any, unet: Any) -> Any:
    """SDXL's refiner with the other parts of a base."""
    import diffusers

    return diffusers.StableDiffusionXLImg2ImgPipeline(
        vae=base.vae, text_encoder=None, tokenizer=None, text_encoder_2=base.text_encoder_2,
        tokenizer_2=base.tokenizer_2, unet=unet, scheduler=base.scheduler,
        requires_aesthetics_score=True, force_zeros_for_empty_prompt=False,
    )  # fmt: skip
