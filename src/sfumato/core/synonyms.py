"""What other programs call the fields and options here, and what was probably meant by a word."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

_SAME: dict[str, tuple[str, ...]] = {
    "t0": (
        "strength", "denoising_strength", "denoise", "img2img_strength", "start_level", "t_start",
    ),
    "solver": ("scheduler", "sampler", "sampler_name", "sampling_method", "sample_method"),
    "cfg": (
        "guidance_scale", "guidance", "cfg_scale", "unconditional_guidance_scale", "guide_scale",
        "g", "guidance_weight",
    ),
    "scale": ("guidance_scale", "guidance", "cfg_scale", "strength", "weight"),
    "rank": ("lora_rank", "network_dim", "r", "dim"),
    "extend": ("outpaint", "expand", "uncrop", "padding"),
    "pictures": ("instance_dir", "instance_data_dir", "train_data_dir", "data", "images_dir"),
    "steps": (
        "epochs", "num_train_epochs", "num_inference_steps", "inference_steps", "num_steps",
        "ddim_steps", "sampling_steps", "sample_steps", "timesteps", "iterations",
        "max_train_steps",
    ),
    "spacing": ("timestep_spacing", "schedule", "respacing", "timestep_respacing"),
    "prompt": ("text", "caption", "positive_prompt", "positive", "txt", "p"),
    "negative": ("negative_prompt", "neg", "uncond"),
    "n": (
        "num_images_per_prompt", "num_images", "num_samples", "n_samples", "count", "batch_size",
        "batch_count", "number", "images", "n_iter", "batch_images",
    ),
    "size": (
        "width", "height", "resolution", "image_size", "w", "h", "res", "ar", "aspect",
        "aspect_ratio", "dimensions",
    ),
    "seed": ("manual_seed", "random_seed", "generator"),
    "output": (
        "out", "outdir", "output_dir", "output_path", "outfile", "save", "save_path", "o",
        "out_dir", "filename", "file", "output_file", "out_path",
    ),
    "image": (
        "init_image", "init_img", "input", "input_image", "img", "init", "picture", "photo",
        "init_img_path", "i", "source", "reference",
    ),
    "mask": ("mask_image", "mask_img", "mask_path"),
    "invert": ("invert_mask", "inverted"),
    "feather": ("mask_blur", "blur"),
    "model": (
        "ckpt", "checkpoint", "model_id", "model_path", "pretrained_model_name_or_path",
        "model_name", "base_model", "model_name_or_path",
    ),
    "adapt": (
        "lora", "loras", "adapter", "embedding", "textual_inversion", "hypernetwork", "lora_scale",
        "lora_weight", "lora_path", "embeddings", "ti", "vae",
    ),
    "dtype": ("precision", "torch_dtype", "fp16", "half", "bf16"),
    "device": ("gpu", "cuda", "cpu"),
    "plan": ("dry_run", "dryrun", "explain"),
    "debug": ("verbose", "v", "traceback"),
    "quiet": ("silent", "q", "no_progress"),
    "sheet": ("grid", "contact_sheet", "montage"),
    "download": ("fetch", "pull"),
    "factor": ("down_n", "downsample", "upscale", "scale"),
    "start": ("t_start", "begin"),
    "label": ("class_label", "class_id", "classes"),
    "rate": ("learning_rate", "lr"),
    "batch": ("train_batch_size", "batch_size"),
    "class": ("class_prompt", "instance_class", "noun"),
    "name": ("instance_prompt", "identifier", "placeholder_token", "token", "placeholder"),
    "class_folder": ("class_data_dir",),
    "class_pictures": ("num_class_images",),
    "prior": ("prior_loss_weight", "with_prior_preservation"),
    "text_encoder": ("train_text_encoder",),
    "eight_bit": ("use_8bit_adam", "8bit"),
    "resume": ("resume_from_checkpoint", "continue"),
    "window": ("guidance_interval", "interval", "range"),
}  # fmt: skip
VERBS: dict[str, tuple[str, ...]] = {
    "generate": (
        "txt2img", "text2img", "t2i", "sample", "make", "create", "draw", "imagine", "dream",
        "render", "predict", "infer", "inference", "gen", "prompt",
    ),
    "sdedit": ("img2img", "image2image", "i2i", "edit", "stroke", "strokes"),
    "inpaint": ("outpaint", "fill", "mask", "inpainting"),
    "upscale": (
        "superres", "super-resolution", "enlarge", "hires", "resize", "esrgan", "realesrgan",
        "superresolution",
    ),
    "ilvr": ("reference", "variations", "variation"),
    "diffstyler": ("style", "stylize", "stylise", "style-transfer"),
    "prompt_to_prompt": ("p2p", "prompt2prompt", "attention-control", "word-swap"),
    "null_text": ("null-text-inversion", "nti", "inversion", "invert", "ddim-inversion"),
    "dreambooth": (
        "finetune", "fine-tune", "lora", "textual-inversion", "teach", "personalize",
        "custom-diffusion",
    ),
    "run": ("replay", "again", "repeat", "rerun", "reproduce"),
    "info": ("show", "inspect", "metadata", "identify"),
    "doctor": ("check", "version", "env", "diagnose", "selftest"),
    "models": ("list", "ls", "pull", "download", "model", "install", "get", "fetch", "login"),
    "eval": ("evaluate", "measure", "benchmark", "test"),
    "sweep": ("grid", "ablate", "explore"),
    "batch": ("folder", "bulk"),
    "pull": ("download", "get", "install", "fetch", "add"),
}  # fmt: skip


def meant(word: str, known: Collection[str]) -> str | None:
    """The one of the known words that another program's word, or a slip of the pen, stands for."""
    plain = word.lower().strip("-").replace("-", "_")
    names = {name.replace("-", "_"): name for name in known}
    if plain in names:
        return names[plain]
    for table in (_SAME, VERBS):
        for own, others in table.items():
            if own in names and plain in {other.replace("-", "_") for other in others}:
                return names[own]
    near = get_close_matches(plain, list(names), 1, 0.75)
    return names[near[0]] if near else None


def hinted(word: str, known: Collection[str]) -> str:
    """The same in brackets for a message, empty where nothing is near."""
    own = meant(word, known)
    return "" if own is None else f" (here it is {own})"
