"""A tiny CLIP of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import pipelines


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sd1")
    pipelines.stable(root, "sd1")
    return root / "pipeline"


def clip(folder: Path) -> Path:
    """A clean CLIP with random weights, as transformers writes one."""
    from transformers import CLIPConfig, CLIPModel

    size = 256 * 2 + 4 + 2
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": size}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 16, "bos_token_id": size - 2}
    text |= {"eos_token_id": size - 1, "pad_token_id": size - 1}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "patch_size": 8}
    vision |= {"num_attention_heads": 2, "image_size": 24}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    pipelines.scrambled(CLIPModel(config), 6).save_pretrained(folder)
    pipelines.tokenizer(folder).save_pretrained(folder)
    return folder
