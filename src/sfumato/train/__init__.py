"""Training: recipes, data, objectives, the trainer; tuners/ says what is trained, one file each.

Needs torch, numpy, Pillow, pydantic, safetensors, tokenizers and the standard library alone, so
that it runs on a bare GPU machine as `python -m sfumato.train RECIPE.toml`.
"""
