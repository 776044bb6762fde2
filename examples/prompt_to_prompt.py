"""Prompt-to-Prompt: the same picture from an edited prompt, above what the prompt alone makes."""

import sfumato as sf

edits = ["green car, 3d render", "red car, ink drawing", "red car, 3d render, blue background"]
car = sf.load("emoji").process("red car, 3d render")
kept = (car | sf.PromptToPrompt(edited=edits)).sample(seed=4).images
alone = car | sf.PromptToPrompt(edited=edits, cross=0, layout=0, pooled=0)
names = ["red car", "green", "ink drawing", "blue background"]
sheet = sf.sheet([*kept, *alone.sample(seed=4).images], [*names, *names], columns=4)
sheet.save("prompt_to_prompt.png")
