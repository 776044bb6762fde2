"""What the pipelines of diffusers are called with: order, names and what is taken if nothing is.

As in diffusers 0.42; a name without "=" is None by itself, one with "!" must be given. Arguments by
which older programs call them are not among them.
"""

from __future__ import annotations

from ast import literal_eval
from functools import cache
from inspect import Parameter, Signature
from typing import Any

from sfumato.models.loaders.sana import INSTRUCTION

CALLS = {
    "StableDiffusionPipeline": """
        prompt height width num_inference_steps=50 timesteps sigmas guidance_scale=7.5
        negative_prompt num_images_per_prompt=1 eta=0.0 generator latents prompt_embeds
        negative_prompt_embeds ip_adapter_image ip_adapter_image_embeds output_type='pil'
        return_dict=True cross_attention_kwargs guidance_rescale=0.0 clip_skip
        callback_on_step_end callback_on_step_end_tensor_inputs=['latents']
    """,
    "StableDiffusionImg2ImgPipeline": """
        prompt image strength=0.8 num_inference_steps=50 timesteps sigmas guidance_scale=7.5
        negative_prompt num_images_per_prompt=1 eta=0.0 generator prompt_embeds
        negative_prompt_embeds ip_adapter_image ip_adapter_image_embeds output_type='pil'
        return_dict=True cross_attention_kwargs clip_skip callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents']
    """,
    "StableDiffusionInpaintPipeline": """
        prompt image mask_image masked_image_latents height width padding_mask_crop strength=1.0
        num_inference_steps=50 timesteps sigmas guidance_scale=7.5 negative_prompt
        num_images_per_prompt=1 eta=0.0 generator latents prompt_embeds negative_prompt_embeds
        ip_adapter_image ip_adapter_image_embeds output_type='pil' return_dict=True
        cross_attention_kwargs clip_skip callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents']
    """,
    "StableDiffusionXLPipeline": """
        prompt prompt_2 height width num_inference_steps=50 timesteps sigmas denoising_end
        guidance_scale=5.0 negative_prompt negative_prompt_2 num_images_per_prompt=1 eta=0.0
        generator latents prompt_embeds negative_prompt_embeds pooled_prompt_embeds
        negative_pooled_prompt_embeds ip_adapter_image ip_adapter_image_embeds output_type='pil'
        return_dict=True cross_attention_kwargs guidance_rescale=0.0 original_size
        crops_coords_top_left=(0,0) target_size negative_original_size
        negative_crops_coords_top_left=(0,0) negative_target_size clip_skip callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents']
    """,
    "StableDiffusionXLImg2ImgPipeline": """
        prompt prompt_2 image strength=0.3 num_inference_steps=50 timesteps sigmas
        denoising_start denoising_end guidance_scale=5.0 negative_prompt negative_prompt_2
        num_images_per_prompt=1 eta=0.0 generator latents prompt_embeds negative_prompt_embeds
        pooled_prompt_embeds negative_pooled_prompt_embeds ip_adapter_image
        ip_adapter_image_embeds output_type='pil' return_dict=True cross_attention_kwargs
        guidance_rescale=0.0 original_size crops_coords_top_left=(0,0) target_size
        negative_original_size negative_crops_coords_top_left=(0,0) negative_target_size
        aesthetic_score=6.0 negative_aesthetic_score=2.5 clip_skip callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents']
    """,
    "StableDiffusionXLInpaintPipeline": """
        prompt prompt_2 image mask_image masked_image_latents height width padding_mask_crop
        strength=0.9999 num_inference_steps=50 timesteps sigmas denoising_start denoising_end
        guidance_scale=7.5 negative_prompt negative_prompt_2 num_images_per_prompt=1 eta=0.0
        generator latents prompt_embeds negative_prompt_embeds pooled_prompt_embeds
        negative_pooled_prompt_embeds ip_adapter_image ip_adapter_image_embeds output_type='pil'
        return_dict=True cross_attention_kwargs guidance_rescale=0.0 original_size
        crops_coords_top_left=(0,0) target_size negative_original_size
        negative_crops_coords_top_left=(0,0) negative_target_size aesthetic_score=6.0
        negative_aesthetic_score=2.5 clip_skip callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents']
    """,
    "StableDiffusion3Pipeline": """
        prompt prompt_2 prompt_3 height width num_inference_steps=28 sigmas guidance_scale=7.0
        negative_prompt negative_prompt_2 negative_prompt_3 num_images_per_prompt=1 generator
        latents prompt_embeds negative_prompt_embeds pooled_prompt_embeds
        negative_pooled_prompt_embeds ip_adapter_image ip_adapter_image_embeds output_type='pil'
        return_dict=True joint_attention_kwargs clip_skip callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents'] max_sequence_length=256
        skip_guidance_layers skip_layer_guidance_scale=2.8 skip_layer_guidance_stop=0.2
        skip_layer_guidance_start=0.01 mu
    """,
    "StableDiffusion3Img2ImgPipeline": """
        prompt prompt_2 prompt_3 height width image strength=0.6 num_inference_steps=50 sigmas
        guidance_scale=7.0 negative_prompt negative_prompt_2 negative_prompt_3
        num_images_per_prompt=1 generator latents prompt_embeds negative_prompt_embeds
        pooled_prompt_embeds negative_pooled_prompt_embeds output_type='pil' ip_adapter_image
        ip_adapter_image_embeds return_dict=True joint_attention_kwargs clip_skip
        callback_on_step_end callback_on_step_end_tensor_inputs=['latents']
        max_sequence_length=256 mu
    """,
    "StableDiffusion3InpaintPipeline": """
        prompt prompt_2 prompt_3 image mask_image masked_image_latents height width
        padding_mask_crop strength=0.6 num_inference_steps=50 sigmas guidance_scale=7.0
        negative_prompt negative_prompt_2 negative_prompt_3 num_images_per_prompt=1 generator
        latents prompt_embeds negative_prompt_embeds pooled_prompt_embeds
        negative_pooled_prompt_embeds ip_adapter_image ip_adapter_image_embeds output_type='pil'
        return_dict=True joint_attention_kwargs clip_skip callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents'] max_sequence_length=256 mu
    """,
    "FluxPipeline": """
        prompt prompt_2 negative_prompt negative_prompt_2 true_cfg_scale=1.0 height width
        num_inference_steps=28 sigmas guidance_scale=3.5 num_images_per_prompt=1 generator
        latents prompt_embeds pooled_prompt_embeds ip_adapter_image ip_adapter_image_embeds
        negative_ip_adapter_image negative_ip_adapter_image_embeds negative_prompt_embeds
        negative_pooled_prompt_embeds output_type='pil' return_dict=True joint_attention_kwargs
        callback_on_step_end callback_on_step_end_tensor_inputs=['latents']
        max_sequence_length=512
    """,
    "FluxImg2ImgPipeline": """
        prompt prompt_2 negative_prompt negative_prompt_2 true_cfg_scale=1.0 image height width
        strength=0.6 num_inference_steps=28 sigmas guidance_scale=7.0 num_images_per_prompt=1
        generator latents prompt_embeds pooled_prompt_embeds ip_adapter_image
        ip_adapter_image_embeds negative_ip_adapter_image negative_ip_adapter_image_embeds
        negative_prompt_embeds negative_pooled_prompt_embeds output_type='pil' return_dict=True
        joint_attention_kwargs callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents'] max_sequence_length=512
    """,
    "FluxInpaintPipeline": """
        prompt prompt_2 negative_prompt negative_prompt_2 true_cfg_scale=1.0 image mask_image
        masked_image_latents height width padding_mask_crop strength=0.6 num_inference_steps=28
        sigmas guidance_scale=7.0 num_images_per_prompt=1 generator latents prompt_embeds
        pooled_prompt_embeds ip_adapter_image ip_adapter_image_embeds negative_ip_adapter_image
        negative_ip_adapter_image_embeds negative_prompt_embeds negative_pooled_prompt_embeds
        output_type='pil' return_dict=True joint_attention_kwargs callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents'] max_sequence_length=512
    """,
    "QwenImagePipeline": """
        prompt negative_prompt true_cfg_scale=4.0 height width num_inference_steps=50 sigmas
        guidance_scale num_images_per_prompt=1 generator latents prompt_embeds
        prompt_embeds_mask negative_prompt_embeds negative_prompt_embeds_mask output_type='pil'
        return_dict=True attention_kwargs callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents'] max_sequence_length=512
    """,
    "QwenImageImg2ImgPipeline": """
        prompt negative_prompt true_cfg_scale=4.0 image height width strength=0.6
        num_inference_steps=50 sigmas guidance_scale num_images_per_prompt=1 generator latents
        prompt_embeds prompt_embeds_mask negative_prompt_embeds negative_prompt_embeds_mask
        output_type='pil' return_dict=True attention_kwargs callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents'] max_sequence_length=512
    """,
    "QwenImageInpaintPipeline": """
        prompt negative_prompt true_cfg_scale=4.0 image mask_image masked_image_latents height
        width padding_mask_crop strength=0.6 num_inference_steps=50 sigmas guidance_scale
        num_images_per_prompt=1 generator latents prompt_embeds prompt_embeds_mask
        negative_prompt_embeds negative_prompt_embeds_mask output_type='pil' return_dict=True
        attention_kwargs callback_on_step_end callback_on_step_end_tensor_inputs=['latents']
        max_sequence_length=512
    """,
    "ZImagePipeline": """
        prompt height width num_inference_steps=50 sigmas guidance_scale=5.0
        cfg_normalization=False cfg_truncation=1.0 negative_prompt num_images_per_prompt=1
        generator latents prompt_embeds negative_prompt_embeds output_type='pil'
        return_dict=True joint_attention_kwargs callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents'] max_sequence_length=512
    """,
    "ZImageImg2ImgPipeline": """
        prompt image strength=0.6 height width num_inference_steps=50 sigmas guidance_scale=5.0
        cfg_normalization=False cfg_truncation=1.0 negative_prompt num_images_per_prompt=1
        generator latents prompt_embeds negative_prompt_embeds output_type='pil'
        return_dict=True joint_attention_kwargs callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents'] max_sequence_length=512
    """,
    "ZImageInpaintPipeline": """
        prompt image mask_image masked_image_latents strength=1.0 height width
        num_inference_steps=50 sigmas guidance_scale=5.0 cfg_normalization=False
        cfg_truncation=1.0 negative_prompt num_images_per_prompt=1 generator latents
        prompt_embeds negative_prompt_embeds output_type='pil' return_dict=True
        joint_attention_kwargs callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents'] max_sequence_length=512
    """,
    "FluxFillPipeline": """
        prompt prompt_2 image mask_image masked_image_latents height width strength=1.0
        num_inference_steps=50 sigmas guidance_scale=30.0 num_images_per_prompt=1 generator
        latents prompt_embeds pooled_prompt_embeds output_type='pil' return_dict=True
        joint_attention_kwargs callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents'] max_sequence_length=512
    """,
    "FluxKontextPipeline": """
        image prompt prompt_2 negative_prompt negative_prompt_2 true_cfg_scale=1.0 height
        width num_inference_steps=28 sigmas guidance_scale=3.5 num_images_per_prompt=1
        generator latents prompt_embeds pooled_prompt_embeds ip_adapter_image
        ip_adapter_image_embeds negative_ip_adapter_image negative_ip_adapter_image_embeds
        negative_prompt_embeds negative_pooled_prompt_embeds output_type='pil'
        return_dict=True joint_attention_kwargs callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents'] max_sequence_length=512
        max_area=1048576 _auto_resize=True
    """,
    "Flux2KleinPipeline": """
        image prompt height width num_inference_steps=50 sigmas guidance_scale=4.0
        num_images_per_prompt=1 generator latents prompt_embeds negative_prompt_embeds
        output_type='pil' return_dict=True attention_kwargs callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents'] max_sequence_length=512
        text_encoder_out_layers=(9,18,27)
    """,
    "HunyuanDiTPipeline": """
        prompt height width num_inference_steps=50 guidance_scale=5.0 negative_prompt
        num_images_per_prompt=1 eta=0.0 generator latents prompt_embeds prompt_embeds_2
        negative_prompt_embeds negative_prompt_embeds_2 prompt_attention_mask
        prompt_attention_mask_2 negative_prompt_attention_mask
        negative_prompt_attention_mask_2 output_type='pil' return_dict=True
        callback_on_step_end callback_on_step_end_tensor_inputs=['latents']
        guidance_rescale=0.0 original_size=(1024,1024) target_size
        crops_coords_top_left=(0,0) use_resolution_binning=True
    """,
    "KandinskyV22Pipeline": """
        image_embeds! negative_image_embeds! height=512 width=512 num_inference_steps=100
        guidance_scale=4.0 num_images_per_prompt=1 generator latents output_type='pil'
        return_dict=True callback_on_step_end callback_on_step_end_tensor_inputs=['latents']
    """,
    "KandinskyV22Img2ImgPipeline": """
        image_embeds! image! negative_image_embeds! height=512 width=512
        num_inference_steps=100 guidance_scale=4.0 strength=0.3 num_images_per_prompt=1
        generator output_type='pil' return_dict=True callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents']
    """,
    "KandinskyV22InpaintPipeline": """
        image_embeds! image! mask_image! negative_image_embeds! height=512 width=512
        num_inference_steps=100 guidance_scale=4.0 num_images_per_prompt=1 generator latents
        output_type='pil' return_dict=True callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents']
    """,
    "LatentConsistencyModelPipeline": """
        prompt height width num_inference_steps=4 original_inference_steps timesteps
        guidance_scale=8.5 num_images_per_prompt=1 generator latents prompt_embeds
        ip_adapter_image ip_adapter_image_embeds output_type='pil' return_dict=True
        cross_attention_kwargs clip_skip callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents']
    """,
    "LatentConsistencyModelImg2ImgPipeline": """
        prompt image num_inference_steps=4 strength=0.8 original_inference_steps timesteps
        guidance_scale=8.5 num_images_per_prompt=1 generator latents prompt_embeds
        ip_adapter_image ip_adapter_image_embeds output_type='pil' return_dict=True
        cross_attention_kwargs clip_skip callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents']
    """,
    "PixArtSigmaPipeline": """
        prompt negative_prompt='' num_inference_steps=20 timesteps sigmas guidance_scale=4.5
        num_images_per_prompt=1 height width eta=0.0 generator latents prompt_embeds
        prompt_attention_mask negative_prompt_embeds negative_prompt_attention_mask
        output_type='pil' return_dict=True callback callback_steps=1 clean_caption=True
        use_resolution_binning=True max_sequence_length=300
    """,
    "SanaPipeline": """
        prompt negative_prompt='' num_inference_steps=20 timesteps sigmas guidance_scale=4.5
        num_images_per_prompt=1 height=1024 width=1024 eta=0.0 generator latents
        prompt_embeds prompt_attention_mask negative_prompt_embeds
        negative_prompt_attention_mask output_type='pil' return_dict=True
        clean_caption=False use_resolution_binning=True attention_kwargs
        callback_on_step_end callback_on_step_end_tensor_inputs=['latents']
        max_sequence_length=300 complex_human_instruction=INSTRUCTION
    """,
    "SanaSprintPipeline": """
        prompt num_inference_steps=2 timesteps max_timesteps=1.5708 intermediate_timesteps=1.3
        guidance_scale=4.5 num_images_per_prompt=1 height=1024 width=1024 eta=0.0 generator
        latents prompt_embeds prompt_attention_mask output_type='pil' return_dict=True
        clean_caption=False use_resolution_binning=True attention_kwargs callback_on_step_end
        callback_on_step_end_tensor_inputs=['latents'] max_sequence_length=300
        complex_human_instruction=INSTRUCTION
    """,
    "SanaSprintImg2ImgPipeline": """
        prompt num_inference_steps=2 timesteps max_timesteps=1.5708 intermediate_timesteps=1.3
        guidance_scale=4.5 image strength=0.6 num_images_per_prompt=1 height=1024 width=1024
        eta=0.0 generator latents prompt_embeds prompt_attention_mask output_type='pil'
        return_dict=True clean_caption=False use_resolution_binning=True attention_kwargs
        callback_on_step_end callback_on_step_end_tensor_inputs=['latents']
        max_sequence_length=300 complex_human_instruction=INSTRUCTION
    """,
    "StableUnCLIPImg2ImgPipeline": """
        image prompt height width num_inference_steps=20 guidance_scale=10 negative_prompt
        num_images_per_prompt=1 eta=0.0 generator latents prompt_embeds
        negative_prompt_embeds output_type='pil' return_dict=True callback callback_steps=1
        cross_attention_kwargs noise_level=0 image_embeds clip_skip
    """,
}
"""Class -> the arguments of its call."""


@cache
def signature(pipeline: str) -> Signature:
    """Of the call of a pipeline by its class."""
    return Signature(
        [Parameter("self", Parameter.POSITIONAL_OR_KEYWORD), *map(_parameter, _words(pipeline))]
    )


def _words(pipeline: str) -> list[str]:
    return CALLS[pipeline].split()


def _parameter(word: str) -> Parameter:
    name, equals, usual = word.partition("=")
    value: Any = literal_eval(usual) if equals and usual != "INSTRUCTION" else None
    if usual == "INSTRUCTION":
        value = INSTRUCTION.split("\n")
    if name.endswith("!"):
        name, value = name[:-1], Parameter.empty
    return Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=value)
