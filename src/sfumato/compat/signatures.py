"""What the pipelines of diffusers are called with: order, names and what is taken if nothing is.

As in diffusers 0.42; a name without "=" is None by itself. Arguments by which older programs call
them are not among them.
"""

from __future__ import annotations

from ast import literal_eval
from functools import cache
from inspect import Parameter, Signature
from typing import Any

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
    value: Any = literal_eval(usual) if equals else None
    return Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=value)
