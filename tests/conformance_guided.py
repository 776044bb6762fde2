"""Whole loops of the reference programs with guides: CLIP, classifier, inpainting, upsampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from conformance_case import limit_of, table_of
from conformance_glide import tape, words
from conformance_networks import clip_of, close, config_of, loaded, part
from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.process import Process
from sfumato.core.solvers import DDIM, DDPM
from sfumato.core.starts import PriorNoise
from sfumato.methods.cfg import CFG
from sfumato.methods.classifier import LogProbability
from sfumato.methods.clip_guidance import Agreement
from sfumato.methods.inpaint import Inpaint
from sfumato.methods.threshold import Threshold
from sfumato.models.cascade import quantised
from sfumato.models.openai import load_unet
from sfumato.nn.classifier import Classifier
from sfumato.nn.clip import NoisedCLIP
from sfumato.nn.unet import UNetConfig

Case = Mapping[str, Any]
Tensors = Mapping[str, Tensor]


def process_of(
    case: Case, t: Tensors, prefix: str, start: Tensor, loop: Case, **fields: Any
) -> Process:
    """The case's network, and of its loop the respacing and the clamp of x0."""
    config = config_of(case)
    net, _ = load_unet(part(t, prefix), config)
    learned = config.out_channels == 2 * start.shape[1]
    denoiser = Denoiser(net, table_of(loop), "eps", learned_range=learned)
    shape = tuple(start.shape[1:])
    process = Process(denoiser, shape, n=len(start), spacing=loop["respacing"], **fields)
    return process | Threshold("static" if loop.get("clip_denoised", True) else "none")


def check_clip_guided(case: Case, t: Tensors) -> None:
    config = clip_of(case["clip_config"])
    clip = NoisedCLIP(config)
    loaded(clip.text_encoder, part(t, "sd.text_encoder."))
    loaded(clip.image_encoder, part(t, "sd.image_encoder."))
    clip.requires_grad_(False)
    start = t["in.noise"]
    process = process_of(
        case, t, "sd.model.", start, case,
        cond=words(t, slice(None)), solver=DDPM(),
    )  # fmt: skip
    text = clip.text(t["in.clip_tokens"], t["in.clip_token_lengths"])
    strength = case["clip_grad_scale"] * config.logit_scale
    guide = Agreement(clip.image, text, process.denoiser.schedule, strength)
    made = (process | guide).sample(noise=tape(start, t.get("in.step_noise")))
    close("sample", made, t["out.sample"], limit_of(case["tolerance_max_abs"], "out.sample"))


def check_classifier_guided(case: Case, t: Tensors) -> None:
    given = case["classifier_config"]
    known = {name: given[name] for name in given if name in UNetConfig.__dataclass_fields__}
    classifier = Classifier(UNetConfig(**known), given["image_size"], given["pool"])
    loaded(classifier, part(t, "sd.classifier.")).requires_grad_(False)
    y = t["in.y"]

    def log_probability(x: Tensor, time: Tensor) -> Tensor:
        return classifier(x, time).log_softmax(-1).gather(1, y[:, None])[:, 0]

    for sub in case["cases"]:
        name = sub.get("prefix", sub["sampler"]).removesuffix(".")
        start = t[f"in.{name}.noise"]
        solver = DDPM() if sub["sampler"] == "p" else DDIM(sub["eta"])
        cond = Cond({"label": y} if case["config"]["num_classes"] else {})
        process = process_of(
            case, t, "sd.model.", start, {**case, **sub}, cond=cond, solver=solver,
        )  # fmt: skip
        process = process | LogProbability(log_probability, case["classifier_scale"])
        made = process.sample(noise=tape(start, t.get(f"in.{name}.step_noise")))
        limit = limit_of(case["tolerance_max_abs"], f"out.{name}.sample")
        close(name, made, t[f"out.{name}.sample"], limit)


def check_inpaint_cfg(case: Case, t: Tensors) -> None:
    start = t["in.noise"]
    half = len(t["in.tokens"]) // 2
    process = process_of(
        case, t, "sd.", start[:half], case,
        cond=words(t, slice(0, half)), null=words(t, slice(half, None)), solver=DDPM(),
    )  # fmt: skip
    known, image = t["in.mask_image"][:half], t["in.image"][:half]
    process = process | CFG(case["guidance_scale"]) | Inpaint(image, mask=known, invert=True)
    made = process.sample(noise=tape(start[:half], t.get("in.step_noise")))
    close("sample", made, t["out.sample"], limit_of(case["tolerance_max_abs"], "out.sample"))


def check_upsample(case: Case, t: Tensors) -> None:
    low = quantised(t["in.base_sample"])
    close("low_res", low, t["out.low_res"], 0.0)
    start = t["in.noise"]
    cond = Cond({**words(t, slice(None)), "low_res": low})
    process = process_of(
        case, t, "sd.", start, case, cond=cond, solver=DDIM(case["eta"]),
    )  # fmt: skip
    process = replace(process, start=PriorNoise(temperature=case["temperature"]))
    made = process.sample(noise=tape(start, t.get("in.step_noise")))
    close("sample", made, t["out.sample"], limit_of(case["tolerance_max_abs"], "out.sample"))


KINDS: dict[str, Callable[[Case, Tensors], None]] = {
    "glide-loop-clip-guided": check_clip_guided,
    "adm-loop-classifier-guided": check_classifier_guided,
    "glide-loop-inpaint-cfg": check_inpaint_cfg,
    "glide-loop-upsample": check_upsample,
}
