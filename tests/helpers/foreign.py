"""Settings as A1111, Fooocus, InvokeAI and ComfyUI write them."""

from __future__ import annotations

from typing import Any

A1111 = (
    'a "cat", (red:1.2) <lora:style:0.8>\nsecond line\nNegative prompt: dog,\nblurry\n'
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 42, "
    'Size: 512x768, Model hash: 45dee52b, Model: dreamy, Clip skip: 2, Lora hashes: "style: 1, b: '
    '2", Version: v1.10.1'
)
FOOOCUS: dict[str, Any] = {
    "adm_guidance": "(1.5, 0.8, 0.3)", "base_model": "juggernautXL_v8Rundiffusion",
    "base_model_hash": "aeb7e9e689", "full_negative_prompt": ["(worst quality:1.4)", "ugly"],
    "full_prompt": ["cinematic still a field . film grain", "a field, detailed"],
    "guidance_scale": 4, "lora_combined_1": "offset_1.0 : 0.1",
    "loras": [["offset_1.0", 0.1, "4852686128"]], "metadata_scheme": "fooocus",
    "negative_prompt": "", "performance": "Speed", "prompt": "a field",
    "prompt_expansion": "a field, detailed", "refiner_model": "None", "refiner_switch": 0.5,
    "resolution": "(896, 1152)", "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras",
    "seed": "127589946317439009", "sharpness": 2, "steps": 30,
    "styles": "['Fooocus V2', 'Fooocus Enhance']", "vae": "Default (model)",
    "version": "Fooocus v2.5.5",
}  # fmt: skip
INVOKE: dict[str, Any] = {
    "generation_mode": "sdxl_txt2img", "positive_prompt": "a cat", "negative_prompt": "blurry",
    "width": 1024, "height": 768, "seed": 7, "rand_device": "cpu", "cfg_scale": 6.5,
    "cfg_rescale_multiplier": 0.5, "steps": 30, "scheduler": "dpmpp_2m_sde_k",
    "seamless_x": False, "clip_skip": 0,
    "model": {"key": "1", "hash": "blake3:0", "name": "juggernaut", "base": "sdxl", "type": "main"},
    "loras": [{"model": {"name": "detail", "base": "sdxl"}, "weight": 0.75},
              {"lora": {"model_name": "old"}, "weight": 0.5}],
    "vae": {"name": "sdxl-vae"}, "hrf_enabled": True, "app_version": "5.9.0",
}  # fmt: skip


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}


COMFY: dict[str, Any] = {
    "3": node("KSampler", seed=5, steps=25, cfg=6.0, sampler_name="euler_ancestral",
              scheduler="normal", denoise=1, model=["11", 0], positive=["6", 0], negative=["7", 0],
              latent_image=["5", 0]),
    "4": node("CheckpointLoaderSimple", ckpt_name="sub\\dream.safetensors"),
    "5": node("EmptyLatentImage", width=512, height=640, batch_size=1),
    "6": node("CLIPTextEncode", text=["12", 0], clip=["11", 1]),
    "7": node("CLIPTextEncode", text="ugly", clip=["11", 1]),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", filename_prefix="x", images=["13", 0]),
    "10": node("LoraLoader", lora_name="a/first.safetensors", strength_model=0.5,
               strength_clip=0.5, model=["4", 0], clip=["4", 1]),
    "11": node("LoraLoader", lora_name="second.safetensors", strength_model=1.0,
               strength_clip=0.2, model=["10", 0], clip=["10", 1]),
    "12": node("PrimitiveString", value="a cat"),
    "13": node("ImageScale", image=["8", 0], width=1024, height=1280),
}  # fmt: skip
FLUX: dict[str, Any] = {
    "1": node("SamplerCustomAdvanced", noise=["2", 0], guider=["3", 0], sampler=["4", 0],
              sigmas=["5", 0], latent_image=["6", 0]),
    "2": node("RandomNoise", noise_seed=9), "3": node("BasicGuider", model=["8", 0],
                                                      conditioning=["7", 0]),
    "4": node("KSamplerSelect", sampler_name="euler"),
    "5": node("BasicScheduler", scheduler="simple", steps=20, denoise=1.0, model=["8", 0]),
    "6": node("EmptySD3LatentImage", width=1024, height=1024, batch_size=1),
    "7": node("FluxGuidance", guidance=3.5, conditioning=["9", 0]),
    "8": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
    "9": node("CLIPTextEncode", text="a cat", clip=["10", 0]),
    "10": node("DualCLIPLoader", clip_name1="a", clip_name2="b", type="flux"),
}  # fmt: skip
