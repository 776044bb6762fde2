"""Variants of the guided loops: samplers of conformance.variants around networks of the product.

The networks have weights by a formula; what is tried is what stands around them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from conformance.networks import clip_of
from conformance.tables import Tables
from conformance.variants import Made, Step, drawn, single
from sfumato.nn.classifier import Classifier
from sfumato.nn.clip import NoisedCLIP
from sfumato.nn.unet import UNet, UNetConfig

TEXT: dict[str, Any] = {
    "n_vocab": 19, "text_ctx": 5, "xf_width": 32, "xf_layers": 1, "xf_heads": 2,
    "xf_final_ln": True, "xf_padding": True,
}  # fmt: skip
PICTURE: dict[str, Any] = {
    "in_channels": 3, "model_channels": 32, "out_channels": 6, "num_res_blocks": 1,
    "attention_resolutions": [2], "dropout": 0.1, "channel_mult": [1, 1], "num_heads": 2,
    "num_head_channels": -1, "num_heads_upsample": -1, "use_scale_shift_norm": True,
    "resblock_updown": True,
}  # fmt: skip


def weighted(net: torch.nn.Module, seed: int) -> Any:
    """Weights of a size that keeps what is read and what is said near 1."""
    draw = drawn(seed)
    with torch.no_grad():
        for name, value in net.named_parameters():
            spread = 0.1 if value.ndim == 1 else 0.7 / math.sqrt(math.prod(value.shape[1:]))
            value.copy_(draw(*value.shape) * spread)
            if value.ndim == 1 and name.endswith(("weight", ".g")):
                value.add_(1)
    return net.eval().requires_grad_(False)


def states(prefix: str, net: torch.nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value.clone() for name, value in net.state_dict().items()}


def unet(seed: int, config: dict[str, Any], **kind: bool) -> UNet:
    net: UNet = weighted(UNet(UNetConfig(**config, **kind)), seed)
    net.out[2].weight.data *= 0.3
    return net


def tokens_of(config: dict[str, Any], draw: Callable[..., Tensor], rows: int) -> dict[str, Tensor]:
    """Tokens, and their mask where the network pads; rows from the half on are empty."""
    if not config.get("xf_width"):
        return {}
    ids = (draw(rows, config["text_ctx"]).abs() * 100).long() % config["n_vocab"]
    places = torch.arange(config["text_ctx"])
    mask = torch.stack([places < (k + 2 if 2 * k < rows else 0) for k in range(rows)])
    return {"tokens": ids, "mask": mask} if config.get("xf_padding") else {"tokens": ids}


def inputs(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"in.{name}": value for name, value in tensors.items()}


def kind_of(config: dict[str, Any]) -> str:
    return "learned_range" if config["out_channels"] == 2 * config["in_channels"] else "fixed_large"


def glide_loop(
    seed: int, schedule: str, total: int, respacing: str, scale: float, eta: float, rows: int,
    inpaint: bool = False, clip: bool = True, **changes: Any,
) -> Made:  # fmt: skip
    """Classifier-free guidance by DDIM, or ancestral with a known part."""
    draw, config = drawn(seed), {**TEXT, **PICTURE, **changes}
    tables, channels = Tables(schedule, total, respacing), config["in_channels"]
    net = unet(seed, config, inpaint=inpaint)
    tokens = tokens_of(config, draw, 2 * rows)
    noise = draw(rows, channels, 8, 12) * 0.5
    steps = draw(len(tables), 2 * rows, *noise.shape[1:])
    image, mask = draw(rows, *noise.shape[1:]).clamp(-1, 1), (draw(rows, 1, 8, 12) > 0).float()
    cond = dict(tokens)
    if inpaint:
        cond |= {"inpaint_image": image.repeat(2, 1, 1, 1), "inpaint_mask": mask.repeat(2, 1, 1, 1)}

    def guided(x: Tensor, t: int) -> Tensor:
        time = torch.full((2 * rows,), float(tables.kept[t]))
        out = net(x.float().repeat(2, 1, 1, 1), time, cond).double()
        with_words, without = out[:, :channels].split(rows)
        eps = without + scale * (with_words - without)
        return torch.cat([eps, out[:rows, channels:]], dim=1)

    def painted(x0: Tensor) -> Tensor:
        return x0 * (1 - mask) + image * mask if inpaint else x0

    x, trajectory = noise.double(), []
    for k, t in enumerate(reversed(range(len(tables)))):
        step = Step(tables, x, t, guided(x, t), kind_of(config), clip=clip, edit=painted)
        z = steps[k, :rows]
        x = step.ancestral(z) if inpaint else step.ddim(z, eta)
        trajectory.append(x)
    tensors = states("sd.", net) | inputs(tokens) | {"in.noise": noise.repeat(2, 1, 1, 1)}
    tensors |= {"out.sample": x, "in.step_noise": steps}
    case = {
        "kind": "glide-loop-inpaint-cfg" if inpaint else "glide-loop-ddim-cfg",
        "model": "InpaintText2ImUNet" if inpaint else "Text2ImUNet", "config": config,
        "schedule": schedule, "respacing": respacing, "guidance_scale": scale,
        "total_steps": total, "clip_denoised": clip, "tolerance_max_abs": 3e-4,
    }  # fmt: skip
    if inpaint:
        return case, single({**tensors, "in.image": image, "in.mask_image": mask})
    first = guided(noise.double(), len(tables) - 1)
    tensors |= {"out.trajectory": torch.stack(trajectory), "out.guided_first": first}
    return {**case, "eta": eta}, single(tensors)


def upsample_loop(
    seed: int, respacing: str, temperature: float, eta: float, rows: int, **changes: Any
) -> Made:
    draw, config = drawn(seed), {**TEXT, **PICTURE, **changes}
    tables = Tables("linear", 1000, respacing)
    net = unet(seed, config, low_res=True)
    tokens = tokens_of(config, draw, rows)
    base, noise = draw(rows, 3, 4, 4).clamp(-1, 1), draw(rows, 3, 8, 8) * 0.5
    low = ((base + 1) * 127.5).round() / 127.5 - 1
    steps = draw(len(tables), *noise.shape)
    x = noise.double() * temperature
    for k, t in enumerate(reversed(range(len(tables)))):
        time = torch.full((rows,), float(tables.kept[t]))
        out = net(x.float(), time, {**tokens, "low_res": low})
        x = Step(tables, x, t, out, kind_of(config)).ddim(steps[k], eta)
    case = {
        "kind": "glide-loop-upsample", "model": "SuperResText2ImUNet", "config": config,
        "schedule": "linear", "respacing": respacing, "temperature": temperature, "eta": eta,
        "tolerance_max_abs": 3e-4,
    }  # fmt: skip
    tensors = states("sd.", net) | inputs({**tokens, "base_sample": base, "noise": noise})
    return case, single({**tensors, "in.step_noise": steps, "out.low_res": low, "out.sample": x})


def classifier_loop(
    seed: int, scale: float, pool: str, classes: int | None, kind: str, loops: list[dict[str, Any]]
) -> Made:
    """Ancestral: the mean moves by variance times gradient; DDIM: the score does."""
    draw, rows = drawn(seed), 2
    learned = kind.startswith("learned")
    config = {**PICTURE, "num_classes": classes, "out_channels": 6 if learned else 3}
    of_classes = {
        **PICTURE, "out_channels": 5, "image_size": 8, "pool": pool, "num_head_channels": 16,
    }  # fmt: skip
    net = unet(seed, config)
    known = {name: v for name, v in of_classes.items() if name not in ("image_size", "pool")}
    classifier = weighted(Classifier(UNetConfig(**known), 8, pool), seed + 1)  # type: ignore[arg-type]
    y = torch.tensor([3, 0])
    tensors = states("sd.model.", net) | states("sd.classifier.", classifier) | {"in.y": y}
    for loop in loops:
        tables = Tables(loop["schedule"], loop.get("total_steps", 1000), loop["respacing"])
        rate = 1000 / len(tables.whole) if loop.get("rescale_timesteps") else 1.0
        name = loop["prefix"].removesuffix(".")
        noise, steps = draw(rows, 3, 8, 8) * 0.5, draw(len(tables), rows, 3, 8, 8)
        x = noise.double()
        for k, t in enumerate(reversed(range(len(tables)))):
            time = torch.full((rows,), tables.kept[t] * rate)
            leaf = x.float().requires_grad_()
            chosen = classifier(leaf, time).log_softmax(-1)[torch.arange(rows), y]
            score = torch.autograd.grad(chosen.sum(), leaf)[0] * scale
            out = net(x.float(), time, {} if classes is None else {"label": y})
            step = Step(tables, x, t, out, kind, clip=loop.get("clip_denoised", True))
            x = (
                step.ancestral(steps[k], score) if loop["sampler"] == "p"
                else step.ddim(steps[k], loop["eta"], score)
            )  # fmt: skip
        tensors |= {f"in.{name}.noise": noise, f"in.{name}.step_noise": steps}
        tensors[f"out.{name}.sample"] = x
    case = {
        "kind": "adm-loop-classifier-guided", "model": "UNetModel", "config": config,
        "classifier_config": of_classes, "classifier_scale": scale, "cases": loops,
        "var_type": kind, "tolerance_max_abs": 5e-4,
    }  # fmt: skip
    return case, single(tensors)


def clip_config(head: int, text_head: int) -> dict[str, Any]:
    return {
        "logit_scale": 30.0, "beta_schedule": "squaredcos_cap_v2", "n_timesteps": 1000,
        "image_size": 8, "patch_size": 4, "n_vocab": 17, "max_text_len": 6, "n_embd": 12,
        "n_head_state_text": text_head, "n_head_text": 3, "n_xf_blocks_text": 2,
        "n_head_state_image": head, "n_head_image": 2, "n_xf_blocks_image": 2,
    }  # fmt: skip


MEANS = torch.tensor([122.77093945, 116.74601272, 104.09373519]).double().view(-1, 1, 1)
STDS = torch.tensor([68.50053285, 66.63215831, 70.32316309]).double().view(-1, 1, 1)


class Encoders:
    """Both sides of the noised CLIP, head by head."""

    def __init__(self, net: NoisedCLIP, config: dict[str, Any]) -> None:
        self.w = {name: value.double() for name, value in net.state_dict().items()}
        self.config = config

    def norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.g"], self.w[f"{name}.b"])

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.w[f"{name}.w"].T + self.w.get(f"{name}.b", torch.zeros(()))

    def blocks(self, x: Tensor, side: str, count: int, head: int, causal: bool) -> Tensor:
        n = x.shape[1]
        later = torch.triu(torch.ones(n, n, dtype=torch.bool), 1)
        for k in range(count):
            name = f"{side}_encoder.blocks.block_{k}"
            h = self.norm(x, f"{name}.f_attn.ln")
            q, key, v = (self.linear(h, f"{name}.f_attn.f_{part}") for part in "qkv")
            heads = []
            for low in range(0, q.shape[-1], head):
                part = slice(low, low + head)
                scores = q[..., part] @ key[..., part].transpose(1, 2) / head**0.5
                if causal:
                    scores = scores.masked_fill(later, -math.inf)
                heads.append(scores.softmax(-1) @ v[..., part])
            x = x + self.linear(torch.cat(heads, -1), f"{name}.f_attn.f_c")
            h = self.linear(self.norm(x, f"{name}.f_mlp.ln"), f"{name}.f_mlp.f_1")
            x = x + self.linear(F.gelu(h), f"{name}.f_mlp.f_2")
        return x

    def head(self, x: Tensor, side: str) -> Tensor:
        name = f"{side}_encoder.blocks.output"
        return self.linear(self.norm(x, f"{name}.ln"), f"{name}.f")

    def text(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        w, c = self.w, self.config
        start = "text_encoder.blocks.input"
        x = w[f"{start}.w_voc"][tokens] + w[f"{start}.w_pos"]
        x = self.blocks(x, "text", c["n_xf_blocks_text"], c["n_head_state_text"], True)
        return self.head(x[torch.arange(len(x)), lengths - 1], "text")

    def image(self, x: Tensor, time: Tensor) -> Tensor:
        w, c, start = self.w, self.config, "image_encoder.blocks.input"
        pixels = ((x.double() + 1) * 127.5 - MEANS) / STDS
        patches = F.conv2d(pixels, w[f"{start}.patch_proj"], stride=c["patch_size"])
        first = w[f"{start}.w_t"][time.long()][:, None]
        rows = torch.cat([first, patches.flatten(2).transpose(1, 2)], 1) + w[f"{start}.w_pos"]
        rows = self.norm(rows, f"{start}.ln")
        rows = self.blocks(rows, "image", c["n_xf_blocks_image"], c["n_head_state_image"], False)
        return self.head(rows[:, 0], "image")


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def noised_clip(seed: int, head: int, text_head: int, rows: int, scale: float) -> Made:
    """Embeddings and the gradient of their agreement, with other heads on either side."""
    draw, config = drawn(seed), clip_config(head, text_head)
    net = weighted(NoisedCLIP(clip_of(config)), seed)
    truth = Encoders(net, config)
    x, tokens = draw(rows, 3, 8, 8), (draw(rows, 6).abs() * 90).long() % 17
    time, lengths = torch.arange(rows) * 313 % 1000, torch.arange(rows) % 6 + 1
    leaf = x.double().requires_grad_()
    text, image = truth.text(tokens, lengths), truth.image(leaf, time)
    agreement = (unit(text) * unit(image)).sum() * scale * config["logit_scale"]
    tensors = states("sd.", net) | inputs({"x": x, "tokens": tokens, "timesteps": time})
    tensors |= {"in.token_lengths": lengths, "out.text_features": text, "out.image_features": image}
    tensors |= {"out.text_embedding": unit(text), "out.image_embedding": unit(image)}
    tensors["out.cond_grad"] = torch.autograd.grad(agreement, leaf)[0]
    limit = 1e-3 * max(1.0, float(tensors["out.cond_grad"].abs().max()))
    case = {
        "kind": "noised-clip", "config": config, "grad_scale": scale,
        "tolerance_max_abs": {"out.cond_grad": limit, "others": 3e-5},
    }  # fmt: skip
    return case, {name: value.detach() for name, value in single(tensors).items()}


def clip_loop(seed: int, respacing: str, schedule: str, scale: float, rows: int) -> Made:
    """Ancestral sampling whose mean moves by variance times the gradient of CLIP's agreement."""
    draw, config, of_clip = drawn(seed), {**TEXT, **PICTURE}, clip_config(8, 4)
    tables = Tables(schedule, 1000, respacing)
    net, clip = unet(seed, config), weighted(NoisedCLIP(clip_of(of_clip)), seed + 1)
    truth = Encoders(clip, of_clip)
    tokens = tokens_of(config, draw, rows)
    words = (draw(rows, 6).abs() * 90).long() % 17
    lengths = torch.arange(rows) % 6 + 1
    noise, steps = draw(rows, 3, 8, 8) * 0.5, draw(len(tables), rows, 3, 8, 8)
    text, x = unit(truth.text(words, lengths)), noise.double()
    for k, t in enumerate(reversed(range(len(tables)))):
        time = torch.full((rows,), float(tables.kept[t]))
        leaf = x.clone().requires_grad_()
        agreement = (text * unit(truth.image(leaf, time))).sum()
        score = torch.autograd.grad(agreement, leaf)[0] * scale * of_clip["logit_scale"]
        x = Step(tables, x, t, net(x.float(), time, tokens), "learned_range").ancestral(
            steps[k], score
        )
    tensors = states("sd.model.", net) | states("sd.", clip) | inputs({**tokens, "noise": noise})
    tensors |= {"in.clip_tokens": words, "in.clip_token_lengths": lengths, "in.step_noise": steps}
    case = {
        "kind": "glide-loop-clip-guided", "model": "Text2ImUNet", "config": config,
        "clip_config": of_clip, "schedule": schedule, "respacing": respacing,
        "clip_grad_scale": scale, "tolerance_max_abs": 5e-4,
    }  # fmt: skip
    return case, single({**tensors, "out.sample": x})


def network(
    seed: int, kind: str, model: str, rows: int, side: int, text: bool = False, **changes: Any
) -> Made:  # fmt: skip
    """One network of other widths, levels, heads and conditions; its answers are to be recorded."""
    config = {**(TEXT if text else {}), **PICTURE, **changes}
    draw, channels = drawn(seed), config["in_channels"]
    sees = {"low_res": model.startswith("SuperRes"), "inpaint": "Inpaint" in model}
    net = unet(seed, config, **sees)
    arguments = tokens_of(config, draw, rows)
    arguments |= {"x": draw(rows, channels, side, side), "timesteps": torch.arange(rows) * 77.5}
    if config.get("num_classes"):
        arguments["y"] = torch.arange(rows) % config["num_classes"]
    if sees["low_res"]:
        arguments["low_res"] = draw(rows, channels, side // 4, side // 4)
    if sees["inpaint"]:
        arguments |= {"inpaint_image": draw(rows, channels, side, side)}
        arguments |= {"inpaint_mask": (draw(rows, 1, side, side) > 0).float()}
    tensors = states("sd.", net) | inputs(arguments)
    answer = torch.zeros(rows, config["out_channels"], side, side)
    tensors["out.sample"] = answer
    if sees["inpaint"]:
        tensors["out.sample_without_inpaint"] = answer.clone()
    if text:
        width = config["model_channels"]
        tensors["out.timestep_embedding"] = torch.zeros(rows, width)
        tensors["out.xf_proj"] = torch.zeros(rows, 4 * width)
        tensors["out.xf_out"] = torch.zeros(rows, config["xf_width"], config["text_ctx"])
    case = {"kind": kind, "model": model, "config": config, "tolerance_max_abs": 3e-5}
    return case, tensors
