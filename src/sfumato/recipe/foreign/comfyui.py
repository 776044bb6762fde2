"""ComfyUI's `prompt`: the graph that was run, whose links are followed from the sampler back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

from sfumato.core.errors import SfumatoError
from sfumato.core.frame import SIDES
from sfumato.core.ranges import LENGTH, STEPS, Range
from sfumato.documents import parse_data, parse_json
from sfumato.recipe.foreign.draft import Draft, Foreign

Short = Annotated[str, Field(max_length=1000)]
SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustomAdvanced")
LOADERS = {
    "CheckpointLoaderSimple": "ckpt_name", "UNETLoader": "unet_name",
    "UnetLoaderGGUF": "unet_name",
}  # fmt: skip
LORAS = ("LoraLoader", "LoraLoaderModelOnly")
TEXTS = {"CLIPTextEncode": "text", "CLIPTextEncodeSDXL": "text_g", "CLIPTextEncodeFlux": "t5xxl"}
EMPTY = ("EmptyLatentImage", "EmptySD3LatentImage", "EmptyFlux2LatentImage")
QUIET = (
    "CLIPLoader", "DualCLIPLoader", "TripleCLIPLoader", "VAEDecode", "VAEDecodeTiled", "VAELoader",
    "SaveImage", "PreviewImage", "BasicGuider", "CFGGuider", "BasicScheduler", "KSamplerSelect",
    "RandomNoise", "FluxGuidance", "ConditioningZeroOut",
)  # fmt: skip
"""Nodes that say nothing besides what is read of them."""


class Node(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    class_type: Short
    inputs: dict[Short, JsonValue] = {}


class Sampling(BaseModel):
    """A sampler's own numbers."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)

    seed: Annotated[int, Range(0, 1 << 64)] | None = None
    steps: Annotated[int, STEPS] | None = None
    cfg: Annotated[float, Range(0, 100)] | None = None
    sampler_name: Short | None = None
    scheduler: Short | None = None
    denoise: Annotated[float, Range(0, 1)] = 1.0


class Sides(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    width: Annotated[int, SIDES]
    height: Annotated[int, SIDES]


class Patch(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)

    lora_name: Short
    strength_model: Annotated[float, Range(-1000, 1000)] = 1.0
    strength_clip: Annotated[float, Range(-1000, 1000)] | None = None


class Guidance(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)

    guidance: Annotated[float, Range(0, 100)]


@dataclass(frozen=True)
class Graph:
    """Nodes by their ids. where: what errors call the text."""

    nodes: dict[str, Node]
    where: str

    def of(self, key: str, node: Node) -> str | None:
        """The id of the node that an input is linked to."""
        value = node.inputs.get(key)
        if isinstance(value, list) and value and str(value[0]) in self.nodes:
            return str(value[0])
        return None

    def back(self, start: str) -> Iterator[str]:
        """Every node that the start's result depends on, itself first, each once."""
        seen, waiting = {start}, deque([start])
        while waiting:
            own = waiting.popleft()
            yield own
            for key in self.nodes[own].inputs:
                near = self.of(key, self.nodes[own])
                if near is not None and near not in seen:
                    seen.add(near)
                    waiting.append(near)

    def inputs(self, own: str) -> dict[str, Any]:
        """A node's inputs; of one that is linked to a plain value, the value."""
        taken: dict[str, Any] = {}
        for key, value in self.nodes[own].inputs.items():
            near = self.of(key, self.nodes[own])
            if near is None:
                taken[key] = value
                continue
            if (plain := self.plain(near)) is not None:
                taken[key] = plain
        return taken

    def plain(self, own: str) -> Any:
        """The value of a node that is nothing else; None of others."""
        values = list(self.nodes[own].inputs.values())
        return values[0] if len(values) == 1 and isinstance(values[0], str | int | float) else None

    def named(self, own: str) -> str:
        return f"{self.nodes[own].class_type:.60} ({own:.20})"


def read(text: str, where: str) -> Foreign:
    """Such a text; a workflow of one sampler."""
    graph = Graph(parse_json(TypeAdapter(dict[Short, Node]), text, where), where)
    kinds = {own: node.class_type for own, node in graph.nodes.items()}
    samplers = [own for own, kind in kinds.items() if kind in SAMPLERS]
    if len(samplers) != 1:
        which = ", ".join(map(graph.named, samplers[:5])) or "none that is known"
        raise SfumatoError(
            f"{where}: workflows of one sampler ({', '.join(SAMPLERS)}) are read; this one has "
            f"{which}"
        )
    own = samplers[0]
    draft = Draft("ComfyUI", where)
    sampling = _sampling(graph, own)
    draft.keep(steps=sampling.steps)
    draft.seeded(sampling.seed)
    draft.guided(sampling.cfg)
    draft.sampled(sampling.sampler_name, sampling.scheduler)
    known = _known(graph, own, draft, sampling)
    before = list(graph.back(own))
    for near in (*before, *sorted(set(graph.nodes) - set(before))):
        said = near == own or near in known or kinds[near] in QUIET
        if not said and graph.plain(near) is None:
            draft.leave("node", graph.named(near))
    return draft.done()


def _sampling(graph: Graph, own: str) -> Sampling:
    """The numbers of a sampler; of a custom one those of the nodes that it is made of."""
    node = graph.nodes[own]
    inputs = graph.inputs(own)
    if node.class_type == "KSamplerAdvanced":
        inputs["seed"] = inputs.get("noise_seed")
    if node.class_type == "SamplerCustomAdvanced":
        parts = (graph.of(key, node) for key in ("noise", "guider", "sampler", "sigmas"))
        for part in parts:
            inputs |= {} if part is None else graph.inputs(part)
        inputs["seed"] = inputs.pop("noise_seed", None)
    return parse_data(Sampling, inputs, f"{graph.where}: {graph.named(own)}")


def _known(graph: Graph, own: str, draft: Draft, sampling: Sampling) -> set[str]:
    """Carry over what the sampler is fed with; the ids of the nodes that were understood."""
    node = graph.nodes[own]
    guider = graph.of("guider", node)
    fed = node if guider is None else graph.nodes[guider]
    model, known = graph.of("model", fed), set[str]()
    named = None
    for near in () if model is None else graph.back(model):
        kind = graph.nodes[near].class_type
        if kind in LORAS:
            patch = parse_data(Patch, graph.inputs(near), f"{graph.where}: {graph.named(near)}")
            draft.adapter(patch.lora_name, patch.strength_model)
            if patch.strength_clip not in (None, patch.strength_model):
                draft.leave("strength_clip", patch.strength_clip, "is another than the network's")
            known.add(near)
        elif kind in LOADERS:
            value = graph.inputs(near).get(LOADERS[kind])
            named = value if isinstance(value, str) else None
            known.add(near)
    draft.model(named)
    draft.adapters.reverse()  # the one next to the checkpoint comes first
    positive = graph.of("positive", fed) or graph.of("conditioning", fed)
    words = _words(graph, positive, draft, known)
    draft.worded(words, _words(graph, graph.of("negative", fed), draft, known))
    latent = graph.of("latent_image", node)
    if latent is None:
        return known
    if graph.nodes[latent].class_type in EMPTY:
        sides = parse_data(Sides, graph.inputs(latent), f"{graph.where}: {graph.named(latent)}")
        draft.keep(size=[sides.width, sides.height])
        known.add(latent)
        return known
    picture = next(
        (
            near
            for near in graph.back(latent)
            if graph.nodes[near].class_type.startswith("LoadImage")
        ),
        None,
    )
    name = None if picture is None else graph.inputs(picture).get("image")
    draft.began(str(name) if name else None, sampling.denoise if sampling.denoise < 1 else None)
    known |= {latent} | ({picture} if picture is not None else set())
    return known


def _words(graph: Graph, start: str | None, draft: Draft, known: set[str]) -> str:
    """The text of the first encoder behind a condition, and a scale that stands on the way."""
    for near in () if start is None else graph.back(start):
        node = graph.nodes[near]
        if node.class_type == "ConditioningZeroOut":
            return ""
        if node.class_type == "FluxGuidance" or (node.class_type == "CLIPTextEncodeFlux"):
            told = parse_data(Guidance, graph.inputs(near), f"{graph.where}: {graph.named(near)}")
            draft.distilled(told.guidance)
        if node.class_type in TEXTS:
            known.add(near)
            text = graph.inputs(near).get(TEXTS[node.class_type])
            if not isinstance(text, str) or len(text) > LENGTH:
                raise SfumatoError(f"{graph.where}: {graph.named(near)} has no plain text")
            return text
    return ""
