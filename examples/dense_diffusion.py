"""DenseDiffusion: other regions for the same words move colours, and things less."""

import sfumato as sf

process = sf.load("emoji").process("red heart and green apple, 3d render")
shown = {"words alone": process.sample(seed=2).images[0]}
left, right = "0,0,0.5,1", "0.5,0,1,1"
for heart, apple in ((left, right), (right, left)):
    regions = (f"red heart={heart}", f"green apple={apple}")
    dense = process | sf.DenseDiffusion(regions, words=2, pixels=0.6, until=0.5)
    shown[f"heart {'left' if heart == left else 'right'}"] = dense.sample(seed=2).images[0]
sf.sheet(list(shown.values()), list(shown)).save("dense_diffusion.png")
