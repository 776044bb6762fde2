"""Small networks of the OpenAI family, with weights that are nowhere zero."""

from __future__ import annotations

import torch

from sfumato.nn.unet import UNet, UNetConfig

TEXT = UNetConfig(
    model_channels=32,
    num_res_blocks=1,
    attention_resolutions=(2,),
    channel_mult=(1, 2),
    num_head_channels=16,
    use_scale_shift_norm=True,
    resblock_updown=True,
    text_ctx=6,
    xf_width=32,
    xf_layers=1,
    xf_heads=2,
    xf_final_ln=True,
    xf_padding=True,
    n_vocab=20,
)


def network(config: UNetConfig, seed: int = 0) -> UNet:
    """Frozen, without the zero layers of a fresh network."""
    generator = torch.Generator().manual_seed(seed)
    net = UNet(config).eval().requires_grad_(False)
    for parameter in net.parameters():
        noise = torch.randn(parameter.shape, generator=generator) * parameter[0].numel() ** -0.5
        parameter.copy_(noise if parameter.dim() > 1 else 1 + 0.1 * noise)
    return net
