"""DiffStyler's two denoisers with losses, as captured from the running reference program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from conformance.case import number, picked
from conformance.losses import grad, looked
from conformance.networks import part
from conformance.vdiffusion import SOLVERS, formula_input
from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.guides import Guide
from sfumato.core.inversion import Inversion
from sfumato.core.mixture import Branch
from sfumato.core.noise import Tape
from sfumato.core.process import Process
from sfumato.core.schedule import Cosine
from sfumato.methods import instruction
from sfumato.methods.common.penalty import Penalty, View
from sfumato.methods.diffstyler import Velocity
from sfumato.methods.perceptual import distance
from sfumato.methods.total_variation import variation
from sfumato.models.clip import CLIP_MEAN, CLIP_STD
from sfumato.models.rating import head_of
from sfumato.nn.vgg import CONVOLUTIONS, VGG19

Case = Mapping[str, Any]
Tensors = Mapping[str, Tensor]
COSINE = Cosine()
MEAN, STD = CLIP_MEAN, CLIP_STD
FLAGS = ("-cs", "-lc", "-ns", "-tvs", "-as", "-fs", "-ws")


def told(args: list[str], meaning: str) -> tuple[list[tuple[str, float]], dict[str, float]]:
    """The reference's command line: prompts with their weights, and its numbers."""
    defaults = meaning.partition("defaults ")[2]
    values = {flag: number(defaults, rf"\b{flag[1:]} {{}}") for flag in FLAGS}
    default = number(meaning, "default weight {}")
    prompts, words = [], iter(args)
    for word in words:
        if word.startswith("-"):
            values[word] = float(next(words))
        else:
            prompts += instruction.weighted(word, default=default)
    return prompts, values


class Bare(Penalty):
    """At every level, as the reference weighs it; ours leaves out where alpha is near 0."""

    faintest = 0.0


class Check:
    """The toy networks of a case as a process of ours."""

    def __init__(self, case: Case, t: Tensors) -> None:
        self.t, self.case = t, case
        weights = part(t, "vgg.")
        self.vgg = VGG19([len(weights[f"{index}.weight"]) for index in CONVOLUTIONS])
        self.vgg.load_state_dict({f"features.{k}": v for k, v in weights.items()})
        self.vgg.requires_grad_(False)
        # the reference shows VGG the content in [0, 1] and its prediction in [-1, 1]; ours takes
        # [-1, 1] and shifts it, so the prediction is shifted back here (`losses`)
        self.content = t["init_u8"][None].float() / 255
        self.wanted = looked(self.vgg, self.content * 2 - 1)

    def denoiser(self, name: str) -> Denoiser:
        own = part(self.t, f"{name}.")

        def network(x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor:
            clock = own["ct"][None, :, None, None] * time[:, None, None, None]
            if "E" in own:
                vectors = cond["clip_embed"] @ own["E"].T
                clock = clock + vectors[..., None, None]
            hidden = torch.tanh(F.conv2d(x, own["K1"], padding=1) + clock)
            return F.conv2d(hidden, own["K2"], padding=1) + own["d"][None, :, None, None] * x

        return Denoiser(network, COSINE, "v", code=float, t_min=0.0)

    def text(self, prompts: list[tuple[str, float]]) -> Tensor:
        vectors = torch.cat([self.t[f"text.{name}"] for name, _ in prompts])
        return instruction.mixed(vectors, [weight for _, weight in prompts])

    def eye(self, pixels: Tensor) -> Tensor:
        """The toy CLIP on the whole picture; the cutout is the identity here."""
        mean, std = (pixels.new_tensor(v).view(3, 1, 1) for v in (MEAN, STD))
        normalised = ((pixels + 1) / 2 - mean) / std
        side = number(self.case["toy_clip"], r"adaptive_avg_pool2d\(img,{}\)")
        flat = F.adaptive_avg_pool2d(normalised, int(side or 4)).flatten(1)
        hidden = torch.tanh(flat @ self.t["clip.W1"].T)
        return instruction.unit(hidden @ self.t["clip.W2"].T)

    def losses(self, prompts: list[tuple[str, float]], values: dict[str, float]) -> list[Guide]:
        """Those with a gradient: the reference's contrastive loss has none."""
        target = self.text(prompts)
        head = head_of({"weight": self.t["aes.weight"], "bias": self.t["aes.bias"]}, "ava")
        measures: dict[str, Callable[[View], Tensor]] = {
            "-cs": lambda view: instruction.spherical(self.eye(view.pixels), target),
            "-lc": lambda view: distance(looked(self.vgg, view.pixels * 2 - 1), self.wanted),
            "-tvs": lambda view: variation(view.pixels),
            "-as": lambda view: head(self.eye(view.pixels)),  # its sign: ratings fall
        }
        return [
            Bare(values[flag], measure, flag, on="art")
            for flag, measure in measures.items()
            if values[flag]
        ]

    def process(self, args: list[str], solver: Any = "ddim", times: Any = (0.5, 0.0)) -> Process:
        prompts, values = told(args, self.case["args_meaning"])
        total = values["-fs"] + values["-ws"]
        general, art = values["-fs"] / total, values["-ws"] / total
        null = Cond({"clip_embed": torch.zeros(1, self.t["A.E"].shape[1])})
        rest = 1 - sum(weight for _, weight in prompts)
        branches = [Branch("null", null, general * rest)]
        branches += [
            Branch(name, Cond({"clip_embed": embedded(self.t[f"text.{name}"])}), general * weight)
            for name, weight in prompts
        ]
        branches += [Branch("art", Cond(), art, self.denoiser("B"))]
        guides = self.losses(prompts, values)
        return Process(
            self.denoiser("A"),
            tuple(self.t["init_u8"].shape),
            cond=null,
            solver=solver,
            spacing=tuple(times),
        ).add(positives=branches, guides=[*guides, Velocity(total)])

    def close(self, name: str, got: Tensor, kind: str, sparse: bool = True) -> None:
        want = self.t[name]
        got = self.sparse(got) if sparse else got
        gap = float((got.reshape(want.shape) - want).norm() / want.norm().clamp_min(1e-12))
        assert gap <= self.case["tolerance"][f"rel_l2_{kind}"], f"{name}: off by {gap:.1e}"

    def single(self, entry: Mapping[str, Any]) -> None:
        """v of one evaluation, and the gradient of the summed losses."""
        t, j, name = entry["t"], entry["j"], entry["case"]
        x = formula_input(self.case["inputs"], j=j)
        process = self.process(entry["args"])
        loop = process.begin(noise=Tape({}))
        run = loop.run
        pred = loop.steering.begin(run.call(0, t, 0.0))(x, t)
        v = COSINE.alpha(t) * pred.eps - COSINE.sigma(t) * pred.x0
        self.close(f"v.{name}.{j}", v, "v")
        prompts, values = told(entry["args"], self.case["args_meaning"])
        guides: Any = self.losses(prompts, values)
        leaf = x.clone().requires_grad_()
        prediction = self.denoiser("B")(leaf, t, Cond())
        call = run.call(0, t, 0.0)
        total = sum(
            (-guide.logp(leaf, prediction, call).sum() for guide in guides), torch.zeros(())
        )
        want = self.t[f"grad.{name}.{j}"]
        if not guides:
            assert float(want.abs().max()) == 0
            return
        if not values["-ns"]:
            assert abs(float(total.detach()) / entry["total_loss"] - 1) < 2e-3
        self.close(f"grad.{name}.{j}", grad(total, leaf), "grad")

    def trajectory(self) -> None:
        """Both legs with iplms: free diffusion by A alone, then both with the losses."""
        told_ = self.case["trajectory"]
        rising = self.t["traj.rev_steps"].double().tolist()
        falling = (*self.t["traj.fwd_steps"].double().tolist(), 0.0)
        x0 = self.content * 2 - 1
        solver = picked(SOLVERS, told_.get("method", "iplms").split()[0], "method")
        process = self.process(told_["args"], solver, falling)
        alone = replace(process, positives=(), guides=())
        inversion = Inversion(alone, tuple(rising[::-1]), rising[-1]).of(x0)
        for k, state in enumerate(inversion.path[1:]):
            self.close("traj.rev_x", self.rows("traj.rev_x", k, state), "trajectory", sparse=False)
        self.close("traj.xT", inversion.x, "trajectory")
        steps = list(process.steps(inversion.x, noise=Tape({})))[1:]
        for k, step in enumerate(steps):
            assert step.pred is not None
            for name, state in (("traj.x", step.x), ("traj.pred", step.pred.x0)):
                self.close(name, self.rows(name, k, state), "trajectory", sparse=False)
        self.close("traj.out", steps[-1].x, "trajectory")

    def sparse(self, pixels: Tensor) -> Tensor:
        """What a case keeps of a picture."""
        step = int(number(self.case["subsampling"], "::{}") or 1)
        return pixels[..., ::step, ::step]

    def rows(self, name: str, k: int, state: Tensor) -> Tensor:
        """The stored states with one of them replaced by ours."""
        states = self.t[name].clone()
        states[k] = self.sparse(state)[0]
        return states


def embedded(vector: Tensor) -> Tensor:
    """As the toy network reads it: of unit length."""
    return vector / vector.norm(dim=-1, keepdim=True)


def check_dual(case: Case, t: Tensors) -> None:
    check = Check(case, t)
    for entry in case["cases"]:
        check.single(entry)
    check.trajectory()


KINDS: dict[str, Callable[[Case, Tensors], None]] = {"diffstyler-dual-guided": check_dual}
