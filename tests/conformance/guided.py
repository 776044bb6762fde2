"""Whole loops of the reference programs with guides: CLIP, classifier, inpainting, upsampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from conformance.case import picked, respacing_of, table_of, total_of
from conformance.glide import tape, words
from conformance.networks import clip_of, close, config_of, known_fields, loaded, weights
from conformance.steps import KIND, ancestral
from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.process import Process
from sfumato.core.solvers import DDIM, Solver
from sfumato.core.starts import PriorNoise
from sfumato.methods.cfg import CFG
from sfumato.methods.classifier import LogProbability
from sfumato.methods.clip_guidance import Agreement
from sfumato.methods.inpaint import Inpaint
from sfumato.methods.threshold import Threshold
from sfumato.models.cascade import quantise
from sfumato.models.loaders.openai import load_unet
from sfumato.nn.classifier import Classifier
from sfumato.nn.clip import NoisedCLIP
from sfumato.nn.unet import UNetConfig

Case = Mapping[str, Any]
Tensors = Mapping[str, Tensor]


def process_of(
    case: Case, t: Tensors, prefix: str, start: Tensor, loop: Case, sampler: str, **fields: Any
) -> Process:
    """The case's network, and of its loop the respacing, the solver and the clamp of x0."""
    config = config_of(case)
    net, _ = load_unet(weights(t, prefix), config)
    learned = config.out_channels == 2 * start.shape[1]
    loop = {"var_type": "learned_range" if learned else "fixed_large", **loop}
    kind = picked(KIND, loop.get("mean_type", "epsilon"), "mean_type")
    variance = loop["var_type"]
    denoiser = Denoiser(
        net, table_of(loop), kind, learned_range=variance == "learned_range",
        learned_log=variance == "learned", code=code_of(loop),
    )  # fmt: skip
    process = Process(
        denoiser, tuple(start.shape[1:]), n=len(start), spacing=respacing_of(loop),
        solver=solver_of(loop, sampler), **fields,
    )  # fmt: skip
    return process | Threshold("static" if loop.get("clip_denoised", True) else "none")


def code_of(loop: Case) -> Callable[[float], float] | None:
    """What the networks of a loop read of a time, where it is not the index in the table."""
    if not loop.get("rescale_timesteps"):
        return None
    total = total_of(loop)
    return lambda t: (t * total - 1) * 1000 / total


def solver_of(loop: Case, sampler: str) -> Solver:
    """The solver that a loop names, or the one that its kind stands for."""
    name = picked({"p": "p", "ddim": "ddim"}, loop.get("sampler", sampler), "sampler")
    return ancestral(loop) if name == "p" else DDIM(loop.get("eta") or 0.0)


def check_clip_guided(case: Case, t: Tensors) -> None:
    config = clip_of(case["clip_config"])
    clip = NoisedCLIP(config)
    loaded(clip.text_encoder, weights(t, "sd.text_encoder."))
    loaded(clip.image_encoder, weights(t, "sd.image_encoder."))
    clip.requires_grad_(False)
    start = t["in.noise"]
    process = process_of(
        case, t, "sd.model.", start, case, "p", cond=words(t, slice(None)),
    )  # fmt: skip
    text = clip.text(t["in.clip_tokens"], t["in.clip_token_lengths"])
    strength = case["clip_grad_scale"] * config.logit_scale
    guide = Agreement(clip.image, text, process.denoiser.schedule, strength)
    made = (process | guide).sample(noise=tape(start, t.get("in.step_noise")))
    close("sample", made, t["out.sample"], case["tolerance_max_abs"])


def check_classifier_guided(case: Case, t: Tensors) -> None:
    given = case["classifier_config"]
    classifier = Classifier(
        UNetConfig(**known_fields(given)), given["image_size"], given.get("pool", "adaptive")
    )
    loaded(classifier, weights(t, "sd.classifier.")).requires_grad_(False)
    y = t["in.y"]

    for sub in case["cases"]:
        name = sub.get("prefix", sub["sampler"]).removesuffix(".")
        start, loop = t[f"in.{name}.noise"], {**case, **sub}
        scale = 1000 / total_of(loop) if loop.get("rescale_timesteps") else 1.0

        def log_probability(x: Tensor, time: Tensor, scale: float = scale) -> Tensor:
            return classifier(x, time * scale).log_softmax(-1).gather(1, y[:, None])[:, 0]

        cond = Cond({"label": y} if case["config"].get("num_classes") else {})
        process = process_of(case, t, "sd.model.", start, loop, sub["sampler"], cond=cond)
        process = process | LogProbability(log_probability, loop["classifier_scale"])
        made = process.sample(noise=tape(start, t.get(f"in.{name}.step_noise")))
        close(f"{name}.sample", made, t[f"out.{name}.sample"], case["tolerance_max_abs"])


def check_inpaint_cfg(case: Case, t: Tensors) -> None:
    start = t["in.noise"]
    half = len(t["in.tokens"]) // 2
    process = process_of(
        case, t, "sd.", start[:half], case, "p",
        cond=words(t, slice(0, half)), null=words(t, slice(half, None)),
    )  # fmt: skip
    known, image = t["in.mask_image"][:half], t["in.image"][:half]
    assert ((known == 0) | (known == 1)).all(), "the reference multiplies a soft mask in twice"
    process = process | CFG(case["guidance_scale"]) | Inpaint(image, mask=known, invert=True)
    made = process.sample(noise=tape(start[:half], t.get("in.step_noise")))
    close("sample", made, t["out.sample"], case["tolerance_max_abs"])


def check_upsample(case: Case, t: Tensors) -> None:
    low = quantise(t["in.base_sample"])
    close("low_res", low, t["out.low_res"], 0.0)
    start = t["in.noise"]
    cond = Cond({**words(t, slice(None)), "low_res": low})
    process = process_of(case, t, "sd.", start, case, "ddim", cond=cond)
    process = replace(process, start=PriorNoise(temperature=case.get("temperature", 1.0)))
    made = process.sample(noise=tape(start, t.get("in.step_noise")))
    close("sample", made, t["out.sample"], case["tolerance_max_abs"])


KINDS: dict[str, Callable[[Case, Tensors], None]] = {
    "glide-loop-clip-guided": check_clip_guided,
    "adm-loop-classifier-guided": check_classifier_guided,
    "glide-loop-inpaint-cfg": check_inpaint_cfg,
    "glide-loop-upsample": check_upsample,
}
