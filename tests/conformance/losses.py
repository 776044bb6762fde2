"""The losses of DiffStyler and DiffusionCLIP against the reference programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from conformance.case import number
from conformance.networks import part
from sfumato.methods import instruction
from sfumato.methods.common.contrast import contrast, normalised
from sfumato.methods.common.cutouts import cutouts
from sfumato.methods.patch_nce import rows
from sfumato.methods.perceptual import distance
from sfumato.methods.total_variation import variation
from sfumato.models.features import Maps
from sfumato.models.rating import head_of
from sfumato.nn.vgg import CONVOLUTIONS, VGG19

Case = Mapping[str, Any]
Tensors = Mapping[str, Tensor]


class Within:
    """Asserts that tensors agree within the case's tolerances; remembers which were compared."""

    def __init__(self, case: Case, t: Tensors) -> None:
        self.tolerance, self.t = case["tolerance"], t
        self.compared: set[str] = set()

    def __call__(self, name: str, got: Tensor) -> None:
        want = self.t[name]
        assert got.shape == want.shape, f"{name}: {tuple(got.shape)}, not {tuple(want.shape)}"
        torch.testing.assert_close(
            got.detach(), want, **self.tolerance, msg=lambda m: f"{name}: {m}"
        )
        self.compared.add(name)


def grad(loss: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(loss, x, retain_graph=True)[0]


def check_losses(case: Case, t: Tensors) -> None:
    same = Within(case, t)
    for start, check in GROUPS.items():
        if any(name.startswith(start) for name in t):
            check(same, t, case)
    input_names = {name for name in t if inputs(name)}
    assert same.compared | input_names == set(t), (
        f"not compared: {sorted(set(t) - same.compared - input_names)}"
    )


INPUTS = (
    "sph.image_embeds", "sph.target", "prompt.embeds", "prompt.weights", "tv.x", "aes.embeds",
    "aes.weight", "aes.bias", "aes.sac_weight", "cut.image", "cut.boxes", "perc.pred",
    "perc.content01", "dir.src_text", "dir.trg_text", "dir.src_img", "dir.trg_img",
)  # fmt: skip


def inputs(name: str) -> bool:
    """Whether a tensor is what the reference was given, not what it made."""
    last = name.rpartition(".")[2]
    output = last.startswith(("loss", "fq", "fk", "grad", "sum"))
    return name in INPUTS or name.startswith("perc.vgg.") or (name.startswith("nce") and not output)


def clip(same: Within, t: Tensors, case: Case) -> None:
    vectors = t["sph.image_embeds"].clone().requires_grad_()
    per_cut = instruction.spherical(vectors, t["sph.target"])
    total = per_cut.mean(0).sum()
    same("sph.per_cut", per_cut)
    same("sph.total", total)
    same("sph.grad", grad(total, vectors))


def text_prompts(same: Within, t: Tensors, case: Case) -> None:
    same("prompt.combined", instruction.mixed(t["prompt.embeds"], t["prompt.weights"].tolist()))
    default = number(case.get("prompts_note", ""), "default weight {}") or 3.0
    for text, (words, weight) in case.get("prompts", ()):
        assert instruction.weighted(text, default=default) == [(words, weight)], text


def nce(same: Within, t: Tensors, case: Case) -> None:
    """F is the identity in our loss and an MLP in one of the cases; pictures share their keys."""
    tau = case["params"]["nce"]["temperature"]
    for group in sorted({name.partition(".")[0] for name in t if name.startswith("nce")}):
        own = part(t, f"{group}.")
        levels = sum(name[0] == "q" and name[1:].isdigit() for name in own)
        queries = [own[f"q{level}"].clone().requires_grad_() for level in range(levels)]
        total = torch.zeros(())
        for level, query in enumerate(queries):
            project = mlp(part(own, f"mlp_{level}."))
            vectors = [
                project(rows(maps, own[f"ids{level}"].expand(len(maps), -1)).flatten(0, 1))
                for maps in (query, own[f"k{level}"])
            ]
            losses = contrast(vectors[0][None], vectors[1][None], tau)[0]
            same(f"{group}.fq{level}", normalised(vectors[0]))
            same(f"{group}.fk{level}", normalised(vectors[1]))
            same(f"{group}.loss{level}", losses)
            total = total + losses.mean()
        same(f"{group}.sum_of_means", total)
        for level, query in enumerate(queries):
            same(f"{group}.grad_q{level}", grad(total, query))


def mlp(weights: Tensors) -> Callable[[Tensor], Tensor]:
    """Linear, ReLU, Linear of the case, or the identity."""
    if not weights:
        return lambda x: x

    def project(x: Tensor) -> Tensor:
        hidden = F.relu(F.linear(x, weights["0.weight"], weights["0.bias"]))
        return F.linear(hidden, weights["2.weight"], weights["2.bias"])

    return project


def variations(same: Within, t: Tensors, case: Case) -> None:
    x = t["tv.x"].clone().requires_grad_()
    per_image = variation(x)
    same("tv.per_image", per_image)
    same("tv.grad", grad(per_image.sum(), x))


def heads(same: Within, t: Tensors, case: Case) -> None:
    vectors = t["aes.embeds"].clone().requires_grad_()
    unit = instruction.unit(vectors)
    rating = head_of({"weight": t["aes.weight"], "bias": t["aes.bias"]}, "ava")(unit).mean()
    same("aes.ava_mean", rating)
    same("aes.ava_grad", grad(rating, vectors))
    sac = {"linear.weight": t["aes.sac_weight"], "linear.bias": t["aes.bias"]}
    same("aes.sac_out", head_of(sac, "sac")(unit)[..., None])


def cuts(same: Within, t: Tensors, case: Case) -> None:
    boxes = [tuple(map(tuple, t["cut.boxes"].tolist()))] * len(t["cut.image"])
    cut = cutouts(t["cut.image"], boxes, t["cut.out"].shape[-1], resize=F.adaptive_avg_pool2d)
    same("cut.out", cut.flatten(0, 1))


def content(same: Within, t: Tensors, case: Case) -> None:
    """The reference shows the network x instead of (x + 1) / 2; that is done here, not by us."""
    weights = part(t, "perc.vgg.")
    net = VGG19([len(weights[f"{index}.weight"]) for index in CONVOLUTIONS])
    net.load_state_dict({f"features.{name}": value for name, value in weights.items()})
    net.requires_grad_(False)
    pred = t["perc.pred"].clone().requires_grad_()
    wanted = looked(net, t["perc.content01"] * 2 - 1)
    for name, pixels in (("fixed", pred), ("ref", pred * 2 - 1)):
        maps = looked(net, pixels)
        loss = distance(maps, wanted).sum()
        same(f"perc.loss_{name}", loss)
        same(f"perc.grad_{name}", grad(loss, pred))
    for layer, name in (("relu4_2", "feat4_2"), ("relu5_2", "feat5_2")):
        same(f"perc.{name}", looked(net, pred)[layer])


def looked(net: VGG19, pixels: Tensor) -> dict[str, Tensor]:
    maps = Maps(net(pixels))
    return {name: maps[name] for name in ("relu4_2", "relu5_2")}


def directions(same: Within, t: Tensors, case: Case) -> None:
    source, target, before = t["dir.src_text"], t["dir.trg_text"], t["dir.src_img"]
    vectors = t["dir.trg_img"].clone().requires_grad_()
    way = instruction.direction(target, source)
    loss = instruction.directional(vectors, before, way).mean()
    same("dir.text_direction", way)
    same("dir.loss", loss)
    same("dir.grad", grad(loss, vectors))
    wanted = (instruction.unit(target[:1]) * instruction.unit(source[:1])).sum(-1)
    same("angle.loss", instruction.angle(vectors, before, wanted).mean())
    same("global.loss", instruction.cosine(vectors, target[:1]).mean())


GROUPS: dict[str, Callable[[Within, Tensors, Case], None]] = {
    "sph.": clip,
    "prompt.": text_prompts,
    "nce": nce,
    "tv.": variations,
    "aes.": heads,
    "cut.": cuts,
    "perc.": content,
    "dir.": directions,
}
"""Checks by how the names of their tensors begin."""

KINDS: dict[str, Callable[[Case, Tensors], None]] = {"style-losses": check_losses}
