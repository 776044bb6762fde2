"""Conformance of the OpenAI UNet family with the reference programs: whole networks and layers.

A check takes a fixture's JSON and tensors. It runs on the path of sampling (frozen weights) and on
the path of gradients, which use different convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conformance.case import limit_of, picked
from sfumato.models.loaders import openai, vdiffusion
from sfumato.models.loaders.openai import load_unet
from sfumato.nn.blocks import Attention, Downsample, ResBlock, Upsample, timestep_embedding
from sfumato.nn.classifier import Classifier
from sfumato.nn.clip import CLIPConfig, NoisedCLIP
from sfumato.nn.group_norm import GROUPS, GroupNorm
from sfumato.nn.text import LayerNorm, Transformer, encode
from sfumato.nn.unet import UNet, UNetConfig
from sfumato.nn.vdiffusion import VDiffusion

Case = Mapping[str, Any]
Tensors = Mapping[str, Tensor]

INPUTS = {
    "tokens": "tokens",
    "mask": "mask",
    "y": "label",
    "low_res": "low_res",
    "inpaint_image": "inpaint_image",
    "inpaint_mask": "inpaint_mask",
}


def part(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


IDLE = (
    "image_size", "pool", "use_checkpoint", "cache_text_emb", "xf_ar", "share_unemb",
    "encoder_channels",
)  # fmt: skip
"""What the reference's constructors take and what changes no number of a network in float32."""
ONLY = {"dims": 2, "use_fp16": False}
"""What they take and networks here have one way of."""


def weights(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    """A state dict; a case may keep it in float16, for float32."""
    state = part(tensors, prefix)
    return {name: v.float() if v.is_floating_point() else v for name, v in state.items()}


def known_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """A reference configuration in our terms; what is not known fails in one line."""
    ours = {field.name for field in fields(UNetConfig)}
    unknown = [name for name in config if name not in ours | {*IDLE, *ONLY}]
    assert not unknown, f"config {', '.join(unknown)}: not known to this check"
    for name, value in ONLY.items():
        assert config.get(name, value) == value, f"{name} {config[name]}: ours has {value} alone"
    return {name: value for name, value in config.items() if name in ours}


def config_of(case: Case) -> UNetConfig:
    config, model = case["config"], case.get("model", "")
    return UNetConfig(
        **known_fields(config), low_res=model.startswith("SuperRes"), inpaint="Inpaint" in model
    )


def network_of(case: Case, tensors: Tensors) -> UNet:
    net, report = load_unet(weights(tensors, "sd."), config_of(case))
    assert not report.unexpected
    return net


def cond_of(tensors: Tensors) -> dict[str, Tensor]:
    return {
        ours: tensors[f"in.{theirs}"]
        for theirs, ours in INPUTS.items()
        if f"in.{theirs}" in tensors
    }


def close(what: str, got: Tensor, want: Tensor, tolerance: Any) -> None:
    """Asserts the largest difference; the tolerance is a case's own, by the name of the output."""
    tolerance = limit_of(tolerance, f"out.{what}", what)
    assert got.shape == want.shape, f"{what}: shape {tuple(got.shape)}, not {tuple(want.shape)}"
    gap = (got - want).abs().max().item()
    assert gap <= tolerance, f"{what}: differs by {gap:.2e}, tolerance {tolerance:.0e}"


def check_network(case: Case, tensors: Tensors) -> None:
    net, cond, tolerance = network_of(case, tensors), cond_of(tensors), case["tolerance_max_abs"]
    x, time = tensors["in.x"], tensors["in.timesteps"]
    with torch.no_grad():
        close("sample", net(x, time, cond), tensors["out.sample"], tolerance)
    differentiable = net(x.clone().requires_grad_(), time, cond)
    close("sample", differentiable.detach(), tensors["out.sample"], tolerance)


def check_glide(case: Case, tensors: Tensors) -> None:
    check_network(case, tensors)
    net, cond, tolerance = network_of(case, tensors), cond_of(tensors), case["tolerance_max_abs"]
    embedding = timestep_embedding(tensors["in.timesteps"], net.config.model_channels)
    close("timestep_embedding", embedding, tensors["out.timestep_embedding"], tolerance)
    if net.config.xf_width:
        pooled, sequence = encode(net, cond["tokens"], cond.get("mask"))
        close("xf_proj", net.transformer_proj(pooled), tensors["out.xf_proj"], tolerance)
        close("xf_out", sequence.transpose(1, 2), tensors["out.xf_out"], tolerance)


def check_inpaint(case: Case, tensors: Tensors) -> None:
    check_glide(case, tensors)
    blank = cond_of({k: v for k, v in tensors.items() if "inpaint" not in k})
    out = network_of(case, tensors)(tensors["in.x"], tensors["in.timesteps"], blank)
    want = tensors["out.sample_without_inpaint"]
    close("sample_without_inpaint", out, want, case["tolerance_max_abs"])


def check_classifier(case: Case, tensors: Tensors) -> None:
    theirs = case["config"]
    config = UNetConfig(**known_fields(theirs))
    net = Classifier(config, theirs["image_size"], theirs.get("pool", "adaptive"))
    loaded(net, weights(tensors, "sd.")).requires_grad_(False)
    x = tensors["in.x"].clone().requires_grad_()
    logits = net(x, tensors["in.timesteps"])
    chosen = logits.log_softmax(-1).gather(1, tensors["in.y"][:, None])[:, 0]
    (grad,) = torch.autograd.grad(case.get("classifier_scale", 1.0) * chosen.sum(), x)
    for name, got in (("logits", logits), ("log_prob_selected", chosen), ("cond_grad", grad)):
        want = tensors[f"out.{name}"]
        close(name, got.detach(), want, case["tolerance_max_abs"])


def clip_of(config: Mapping[str, Any]) -> CLIPConfig:
    """The reference's CLIP configuration in our terms."""
    return CLIPConfig(
        embedding=config["n_embd"],
        head_width=config["n_head_state_image"],
        size=config["image_size"],
        patch=config["patch_size"],
        image_width=config["n_head_image"] * config["n_head_state_image"],
        text_head_width=config["n_head_state_text"],
        image_layers=config["n_xf_blocks_image"],
        text_width=config["n_head_text"] * config["n_head_state_text"],
        text_layers=config["n_xf_blocks_text"],
        context=config["max_text_len"],
        vocabulary=config["n_vocab"],
        steps=config["n_timesteps"],
        logit_scale=config["logit_scale"],
    )


def check_noised_clip(case: Case, tensors: Tensors) -> None:
    config = clip_of(case["config"])
    net = loaded(NoisedCLIP(config), weights(tensors, "sd.")).requires_grad_(False)
    x = tensors["in.x"].clone().requires_grad_()
    words = (tensors["in.tokens"], tensors["in.token_lengths"])
    text, image = net.text(*words), net.image(x, tensors["in.timesteps"])
    scale = case["grad_scale"] * config.logit_scale
    (grad,) = torch.autograd.grad(scale * (text * image).sum(), x)
    outputs = {
        "text_features": net.text_encoder(*words),
        "text_embedding": text,
        "image_features": net.image_encoder(x, tensors["in.timesteps"]).detach(),
        "image_embedding": image.detach(),
        "cond_grad": grad,
    }
    for name, got in outputs.items():
        close(name, got, tensors[f"out.{name}"], case["tolerance_max_abs"])


def check_adm_unet(case: Case, tensors: Tensors) -> None:
    check_network(case, tensors)


def check_adm_superres(case: Case, tensors: Tensors) -> None:
    check_network(case, tensors)


def check_glide_text2im(case: Case, tensors: Tensors) -> None:
    check_glide(case, tensors)


def check_glide_superres(case: Case, tensors: Tensors) -> None:
    check_glide(case, tensors)


def group_norm(case: Case, state: Tensors, x: Tensor) -> Tensor:
    swish, groups = case.get("swish", 0.0), case.get("groups", GROUPS)
    norm = GroupNorm(GROUPS, silu=swish == 1.0)  # of any width and groups, which ours never is
    norm.num_groups, norm.num_channels = groups, case["channels"]
    norm.weight, norm.bias = (nn.Parameter(torch.empty(case["channels"])) for _ in range(2))
    h = loaded(norm, state)(x)
    return h * torch.sigmoid(h * swish) if swish not in (0.0, 1.0) else h


def layer_norm(case: Case, state: Tensors, x: Tensor) -> Tensor:
    renamed = {{"g": "weight", "b": "bias"}.get(name, name): v for name, v in state.items()}
    return loaded(LayerNorm(case["width"]), renamed)(x)


def attention(case: Case, state: Tensors, x: Tensor, encoder_out: Tensor | None = None) -> Tensor:
    width = case.get("num_head_channels", -1)
    heads = case.get("num_heads", 1) if width == -1 else case["channels"] // width
    order = case.get("use_new_attention_order", False)
    text = case.get("encoder_channels") or 0
    layer = loaded(Attention(case["channels"], heads, order, text), state)
    return layer(x, None if encoder_out is None else layer.text_kv(encoder_out.transpose(1, 2)))


def res_block(case: Case, state: Tensors, x: Tensor, emb: Tensor) -> Tensor:
    resample = "up" if case.get("up") else "down" if case.get("down") else None
    out = case.get("out_channels") or case["channels"]
    scale_shift = case.get("use_scale_shift_norm", False)
    wide = case.get("use_conv") and out != case["channels"]
    assert not wide, "use_conv: skips of ours are 1x1 where widths differ, as in every release"
    layer = ResBlock(case["channels"], out, case["emb_channels"], 0.0, scale_shift, resample)
    return loaded(layer, state)(x, F.silu(emb))


def upsample(case: Case, state: Tensors, x: Tensor) -> Tensor:
    return loaded(Upsample(x.shape[1], conv=bool(state)), state)(x)


def downsample(case: Case, state: Tensors, x: Tensor) -> Tensor:
    return loaded(Downsample(x.shape[1], conv=bool(state)), state)(x)


def transformer(case: Case, state: Tensors, x: Tensor) -> Tensor:
    return loaded(Transformer(case["width"], case["layers"], case["heads"]), state)(x)


def loaded(module: nn.Module, state: Tensors) -> nn.Module:
    module.load_state_dict(dict(state), strict=True)
    return module.eval().requires_grad_(False)


LAYERS: dict[str, Callable[..., Tensor]] = {
    "group_norm": group_norm,
    "layer_norm": layer_norm,
    "clip_layer_norm": layer_norm,
    "attention": attention,
    "res": res_block,
    "upsample": upsample,
    "downsample": downsample,
    "text_transformer": transformer,
}


def check_layers(case: Case, tensors: Tensors) -> None:
    for layer in case["cases"]:
        name = layer["name"]
        runs = [run for prefix, run in LAYERS.items() if name.startswith(prefix)]
        assert runs, f"layer {name!r}: not known to this check; it knows {', '.join(LAYERS)}"
        run = runs[0]
        arguments = part(tensors, f"in.{name}.")
        got = run(layer, part(tensors, f"sd.{name}."), **arguments)
        close(name, got, tensors[f"out.{name}"], layer["tolerance_max_abs"])


def check_keys(case: Case, tensors: Tensors) -> None:
    """Names, shapes and counts of every released checkpoint, without memory for its weights."""
    checkpoints = checkpoints_of(case)
    assert checkpoints
    for names, listed in checkpoints.items():
        for name in names.split(" / "):
            with torch.device("meta"):
                state = released(name).state_dict()
            shapes = {key: list(tensor.shape) for key, tensor in state.items()}
            assert shapes == listed["state_dict"], name
            assert sum(t.numel() for t in state.values()) == listed["parameters"], name
            assert len(state) == listed["count"], name


def checkpoints_of(case: Case) -> Mapping[str, Mapping[str, Any]]:
    """Of a case with several checkpoints, or with the keys of the one that its title names."""
    if "checkpoints" in case:
        return case["checkpoints"]
    named = [name for name in vdiffusion.PRESETS if name in case["title"].split()]
    assert named, f"{case['title']!r} names none of {', '.join(vdiffusion.PRESETS)}"
    name = named[0]
    return {
        name: {
            "state_dict": dict(case["keys"]), "parameters": case["params"], "count": case["count"],
        }
    }  # fmt: skip


def released(name: str) -> nn.Module:
    """The network of a released checkpoint."""
    if name in vdiffusion.PRESETS:
        return VDiffusion(vdiffusion.PRESETS[name].config)
    if name in openai.PRESETS:
        return UNet(openai.PRESETS[name].config)
    if name in openai.CLASSIFIERS:
        return Classifier(*openai.CLASSIFIERS[name])
    clip = NoisedCLIP(openai.CLIP)
    parts = {"clip/image-enc": clip.image_encoder, "clip/text-enc": clip.text_encoder}
    network: nn.Module = picked(parts, name, "checkpoint")
    return network


UNETS = (
    "adm-unet",
    "adm-superres",
    "glide-text2im",
    "glide-superres",
    "glide-inpaint",
    "glide-superres-inpaint",
)
"""Kinds whose case is one UNet."""

KINDS: dict[str, Callable[[Case, Tensors], None]] = {
    "checkpoint-keys": check_keys,
    "adm-unet": check_adm_unet,
    "adm-superres": check_adm_superres,
    "glide-text2im": check_glide_text2im,
    "glide-superres": check_glide_superres,
    "glide-inpaint": check_inpaint,
    "glide-superres-inpaint": check_inpaint,
    "adm-classifier": check_classifier,
    "noised-clip": check_noised_clip,
    "layers": check_layers,
}
