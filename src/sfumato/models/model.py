"""Model: networks, text, space and card together; the source that processes ask.

Loading lives in loaders/library.py, the stages of a cascade in cascade.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from torch import Tensor

from sfumato.core.context import Run, Step
from sfumato.core.denoiser import Cond, Denoiser, traits
from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.frame import Frame, Size
from sfumato.core.process import Process
from sfumato.core.ranges import Range, real, whole, words
from sfumato.core.solvers import Solver
from sfumato.core.source import (
    Classifier,
    Control,
    Decoder,
    Features,
    ImagePrompt,
    Origin,
    Rating,
    Vision,
)  # fmt: skip
from sfumato.core.spaces import IDENTITY, Space
from sfumato.core.spacing import Own, Times
from sfumato.core.starts import Place
from sfumato.images import Picture
from sfumato.models import finishing, memory
from sfumato.models.card import Card
from sfumato.models.classifier import classifier_of
from sfumato.models.clip import CleanClip, Clip, clip_of
from sfumato.models.controls import control_of
from sfumato.models.defaults import fill, fill_from_scheduler, grid_of
from sfumato.models.devices import Choice
from sfumato.models.features import features_of
from sfumato.models.files.adapter_folders import is_adapter
from sfumato.models.files.edm_schedulers import EdmScheduler
from sfumato.models.files.hashes import digest_of
from sfumato.models.files.pipeline import stamped
from sfumato.models.files.schedulers import Scheduler
from sfumato.models.files.spans import Reader, Spans
from sfumato.models.framing import planned_frame
from sfumato.models.image_prompts import image_prompt_of
from sfumato.models.prompts import labels
from sfumato.models.rating import rating_of
from sfumato.models.recording import process_recipe, run_recipe
from sfumato.models.result import Result
from sfumato.models.shifts import Shifted
from sfumato.models.shown import Noising, Vectors, vectors_of
from sfumato.models.summary import summary
from sfumato.models.tiny import tiny_of
from sfumato.models.vision import vision_of
from sfumato.recipe import Recipe
from sfumato.recipe.fields import STRENGTH
from sfumato.recipe.places import called

if TYPE_CHECKING:
    from sfumato.models.cascade import Cascade

log = logging.getLogger("sfumato")

T = TypeVar("T")
Texts = Sequence[str]


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """denoiser of the base, denoisers of the upsamplers, text, space, card.

    name: what a recipe calls it; weights: digest of its files; folder: where they are; plain: the
    model without its adapters, where it has some; memo: what has been loaded beside the denoisers,
    and what runs remember; scheduler: what its file of diffusers says, where it has one;
    opens: another model by its name, as this one was; noising: of vectors that it reads.
    """

    name: str
    card: Card
    denoiser: Denoiser
    upsamplers: tuple[Denoiser, ...]
    text: Reader | None
    choice: Choice
    weights: str
    space: Space = IDENTITY
    folder: Path | None = None
    adapters: tuple[Mapping[str, Any], ...] = ()
    plain: Model | None = None
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)
    scheduler: Scheduler | EdmScheduler | Shifted | None = None
    opens: Callable[[str], Model] | None = None
    noising: Noising | None = None

    def __repr__(self) -> str:
        """Name, sizes and weights in a few lines."""
        return summary(self)

    def process(
        self,
        prompt: str = "",
        *,
        negative: str = "",
        label: int | None = None,
        n: int = 1,
        steps: int | None = None,
        solver: str | Mapping[str, Any] | Solver[Any] | None = None,
        spacing: str | tuple[float, ...] | None = None,
        size: Size | None = None,
        stages: int | None = None,
    ) -> Process | Cascade:
        """A process of this model; with upsamplers a Cascade, unless stages=1.

        steps: transitions of the base; size: (width, height) or one number, "input", "native".
        """
        if self.text is None and (prompt or negative):
            raise SfumatoError(f"prompt: model {self.name} reads no text; leave it out")
        full = self.phrase(words(prompt, "prompt"))
        total = 1 + len(self.upsamplers)
        if stages is not None:
            stages = whole(stages, "stages", Range(ge=1))
            if stages > total:
                raise SfumatoError(f"stages = {stages}: model {self.name} has {total}")
        base = Process(
            denoiser=self.denoiser,
            shape=self.shape(self.card.native),
            source=self,
            prompt=full,
            negative=negative,
            label=label,
            n=n,
            n_steps=steps,
            solver=solver,
            spacing=spacing,
            size=size,
            stages=stages or total,
            space=self.space,
            device=self.choice.device,
        )
        if base.stages == 1:
            return base
        from sfumato.models.cascade import Cascade

        return Cascade(base, tuple(self.upsampler(k) for k in range(base.stages - 1)))

    def clip(self, name: str | None = None) -> Clip | CleanClip | None:
        """The model's own CLIP, or one from a folder or org/name."""
        return self._memoise(("clip", name), lambda: clip_of(self, name))

    def vision(self, name: str | None = None) -> Vision | None:
        """A vision transformer from a folder or org/name, else the model's CLIP's image side."""
        return self._memoise(("vision", *stamped(name)), lambda: vision_of(self, name))

    def classifier(self) -> Classifier | None:
        return self._memoise(("classifier",), lambda: classifier_of(self))

    def features(self, name: str | None = None) -> Features | None:
        return features_of(self, name)  # the denoiser's must not outlive it in `memo`

    def rating(self, name: str | None = None) -> Rating | None:
        """A file's linear head on a CLIP; with no name that of SFUMATO_HOME."""
        return self._memoise(("rating", *stamped(name)), lambda: rating_of(self, name))

    def control(self, name: str) -> Control:
        """A ControlNet or T2I adapter for the base."""
        return self._memoise(("control", *stamped(name)), lambda: control_of(self, name))

    def image_prompt(self, name: str, encoder: str | None = None) -> ImagePrompt:
        """An adapter that reads pictures as prompts."""
        key = ("image prompt", *stamped(name), *stamped(encoder))
        return self._memoise(key, lambda: image_prompt_of(self, name, encoder))

    def shown(self, encoder: str | None = None) -> Vectors:
        """What reads pictures for a decoder of unCLIP's kind."""
        return self._memoise(("shown", *stamped(encoder)), lambda: vectors_of(self, encoder))

    def decoder(self, which: Literal["full", "tiny"] = "full") -> Decoder | None:
        space = self.space if which == "full" else self.tiny()
        return None if space is None else space.decode

    def tiny(self) -> Space | None:
        """A small autoencoder of the same latents."""
        return self._memoise(("tiny",), lambda: tiny_of(self))

    def second(self, prompt: str, name: str | None = None) -> Model | None:
        """A model to run beside this one: an adapter of this one, or another model.

        Without a name the card's adapter for the style that the prompt names, None where none is.
        """
        chosen = name or self.card.adapter_of(prompt)
        if chosen is None:
            return None
        key = ("second", *stamped(chosen))
        return self._memoise(key, lambda: (self.plain or self)._load_second(chosen))

    def _load_second(self, name: str) -> Model:
        """By the name of an adapter, or of a model whose states are of the same kind."""
        if name in self.card.adapters or is_adapter(Path(name)):
            return self.adapt(name)
        if self.opens is None:
            raise SfumatoError(
                f"second model {name}: this one was not loaded by name; give an adapter"
            )
        second = self.opens(name)
        one, other = ((s.stride, s.channels, getattr(s, "scale", 1.0))
                      for s in (self.space, second.space))  # fmt: skip
        if one != other:
            raise SfumatoError(
                f"second model {name}: works on {second.space.channels} channels at stride "
                f"{second.space.stride}, {self.name} on {self.space.channels} at "
                f"{self.space.stride}; the two cannot be mixed"
            )
        return second

    @property
    def factors(self) -> tuple[int, ...]:
        """How much larger each upsampler makes a picture."""
        return tuple(stage.factor for stage in self.card.upsamplers)

    @property
    def origin(self) -> Origin:
        """Of its weights and adapters together, by the name of the last adapter."""
        digests = [self.weights, *(adapter["sha256"] for adapter in self.adapters)]
        name = self.adapters[-1]["file"] if self.adapters else called(self.name)
        return Origin(name, digest_of(digests))

    @property
    def identity(self) -> Mapping[str, Any]:
        """What its predictions come from."""
        adapters = [dict(adapter) for adapter in self.adapters]
        return {"weights": self.weights, "adapters": adapters, "dtype": self.choice.dtype}

    def _memoise(self, key: tuple[Any, ...], load: Callable[[], T]) -> T:
        """What `load` gives, kept for as long as the model, or until its file changes."""
        if key not in self.memo:
            for old in [k for k in self.memo if k[:2] == key[:2]]:
                del self.memo[old]
            self.memo[key] = load()
        value: T = self.memo[key]
        return value

    def adapt(self, adapter: str | Path, scale: float = 1.0) -> Model:
        """The model with an adapter: LoRA, learned word, autoencoder (models.adapters says more).

        A name on the card, a file, a folder or org/name; scale: strength, 1 as trained. Weights
        that the adapter does not touch are shared, and this model stays as it is.
        """
        from sfumato.models import adapters

        return adapters.adapt(self, adapter, real(scale, "adapter: strength", STRENGTH))

    def upsampler(self, k: int) -> Process:
        """The process of upsampler k; its size and its low_res picture are set when it runs."""
        process = Process(
            denoiser=self.upsamplers[k],
            shape=(3, 0, 0),
            source=self,
            space=self.space,
            stage=k + 1,
            device=self.choice.device,
        )
        return self.complete(process)

    def shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Of the state of a picture (width, height)."""
        stride = self.space.stride
        return (self.space.channels, size[1] // stride, size[0] // stride)

    @property
    def multiple(self) -> int:
        """What the sides of a state are multiples of."""
        return max(self.card.multiple // self.space.stride, 1)

    def encode(
        self, texts: Texts, label: int | None = None, beside: Texts = (), away: bool = False
    ) -> Cond:
        """Tokens or vectors of prompts, or class labels; one row each."""
        several = isinstance(texts, Iterable) and not isinstance(texts, str | bytes)
        if not several or not all(isinstance(text, str) for text in texts):
            raise SfumatoError(f"texts {texts!r:.60}: give a list of texts")
        reader = getattr(self.text, "away", self.text) if away else self.text
        tensors = dict(reader(texts, beside)) if reader else {}
        classes = traits(self.denoiser.network).num_classes
        tensors |= labels(label, len(texts), classes, self.name)
        return Cond(tensors).map(lambda v: v.to(self.choice.device))

    def spans(self, text: str, beside: Sequence[str] = ()) -> Spans | None:
        """Which characters stand behind each column that cross attention reads."""
        return None if self.text is None else self.text.spans(text, beside)

    def complete(self, process: Process) -> Process:
        """The card's defaults into empty slots, and how the scheduler's file says to sample."""
        if process.stage:
            return fill(process, self.card.upsamplers[process.stage - 1].defaults)
        return fill_from_scheduler(self, fill(process, self.card.defaults))

    def grid(self, process: Process) -> Own | None:
        """Times of the spacings "model" and "shifted", which may go by the picture's size."""
        return grid_of(self, process)

    def frame(self, process: Process, place: Place) -> tuple[Frame | None, tuple[int, ...]]:
        """Work size by the card's native size, multiple and maximum; an upsampler's is given."""
        frame, shape = planned_frame(self, process, place)
        if frame is not None and frame.note and not process.stage:
            log.info("%s", frame.note)
        return frame, shape

    def fits(
        self, process: Process, frame: Frame | None, shape: tuple[int, ...], times: Times
    ) -> None:
        """Refuse a run that is beyond the machine's memory, before any network is called."""
        if process.stage == 0:  # which counts its upsamplers too
            memory.check_memory(process, frame, shape, times)

    def preview(self, step: Step, run: Run) -> Picture:
        """The predicted picture of the batch's first row, at the work size without padding.

        Latents go through the tiny autoencoder where there is one.
        """
        return finishing.preview(self.tiny() if run.space.stride > 1 else None, step, run)

    def finish(
        self, pixels: Tensor | None, run: Run, trace: list[dict[str, Any]], calls: list[int]
    ) -> Result:
        """Pictures of pixels (n, 3, H, W) in [-1, 1], and the recipe of what ran.

        They are at the work size times a factor; None: the picture is left as it is.
        """
        recipe = run_recipe(self, run, calls)
        finishing.keep_inputs(run)
        return finishing.result(pixels, run, recipe, trace, calls)

    def phrase(self, prompt: str) -> str:
        """The prompt with the card's template where it names none of the card's styles."""
        full = self.card.full_prompt(prompt)
        if full != prompt:
            log.info("prompt: %s, by the template of %s", quoted(full), self.name)
        return full

    def asked(self, process: Process, seed: int = 0) -> Recipe:
        """The recipe of a process that has not run: all that was asked for, defaults filled in."""
        return process_recipe(self, process, seed)
