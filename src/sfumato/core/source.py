"""Source: what a run asks of the model that its process came from, and what a model may lend it.

Protocols only; models implement them, and core knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.frame import Frame
from sfumato.core.schedule import Schedule
from sfumato.core.spacing import Own, Times

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.context import Run, Step
    from sfumato.core.process import Process
    from sfumato.core.starts import Place

Decoder = Callable[["Tensor"], "Tensor"]
Spot = tuple[str, int]
"""Kind and index of a place inside a network (core/taps.py)."""
Span = tuple[int, int]
"""(start, end) in the characters of a text, as a slice."""


@dataclass(frozen=True)
class Origin:
    """Where weights come from: the name of their file, folder or model, and their sha256."""

    name: str
    sha256: str


class Clip(Protocol):
    """Unit vectors of texts and pictures. schedule: whose table indices it reads, None of any."""

    @property
    def origin(self) -> Origin | None: ...

    @property
    def noised(self) -> bool:
        """Whether it has seen noisy states, and reads their timestep."""
        ...

    @property
    def size(self) -> int:
        """Side of the pictures that it sees."""
        ...

    @property
    def logit_scale(self) -> float: ...

    @property
    def schedule(self) -> Schedule | None: ...

    def text(self, texts: Sequence[str]) -> Tensor:
        """(B, E)."""
        ...

    def image(self, x: Tensor, time: Tensor) -> Tensor:
        """(B, E) of pictures (B, 3, S, S) in [-1, 1] at table indices (B,)."""
        ...

    def layers(self, x: Tensor, time: Tensor) -> Sequence[Tensor]:
        """Tokens (B, 1 + patches, width) after each block, the first no patch's; then `image`."""
        ...


class Classifier(Protocol):
    """A classifier of noisy states; classes: the names in each of its softmaxes."""

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]: ...

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse states that it cannot read."""
        ...

    def log_probabilities(self, x: Tensor, time: Tensor) -> dict[str, Tensor]:
        """log p(class | x, timestep) for each softmax, (B, classes)."""
        ...


class Features(Protocol):
    """A network's maps of pictures (B, 3, H, W) in [-1, 1], by the names of its layers.

    content, contrast: its layers for a perceptual and for a contrastive loss.
    """

    @property
    def name(self) -> str: ...

    @property
    def origin(self) -> Origin | None: ...

    @property
    def content(self) -> tuple[str, ...]: ...

    @property
    def contrast(self) -> tuple[str, ...]: ...

    def __call__(self, pixels: Tensor) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True, eq=False)
class Seen:
    """What a vision transformer sees of B pictures: keys (B, patches, C) of its last attention, and
    whole (B, E), the vector of its first token at the end."""

    keys: Tensor
    whole: Tensor


class Vision(Protocol):
    """A vision transformer: pictures (B, 3, S, S) in [-1, 1], S its size, to what it sees."""

    @property
    def origin(self) -> Origin | None: ...

    @property
    def size(self) -> int: ...

    def __call__(self, pixels: Tensor) -> Seen: ...


class Rating(Protocol):
    """A rating (...) of a CLIP's unit vectors (..., width)."""

    @property
    def name(self) -> str: ...

    @property
    def origin(self) -> Origin | None: ...

    @property
    def width(self) -> int: ...

    def __call__(self, vectors: Tensor) -> Tensor: ...


class Control(Protocol):
    """A second network that reads a hint of the layout, for a first one (ControlNet, T2I adapter).

    pooled: it has no use for the place of anything, and speaks to branches with a prompt alone.
    """

    @property
    def origin(self) -> Origin: ...

    @property
    def pooled(self) -> bool: ...

    def read(self, pixels: Tensor) -> Any:
        """A hint, (1, 3, H, W) in [-1, 1] at the size of the run's pictures, made ready once."""
        ...

    def __call__(self, x: Tensor, time: Tensor, cond: Cond, hint: Any) -> Mapping[Spot, Tensor]:
        """What is added to the first network's maps, down to the middle; x, time, cond: as that one
        reads them; hint: what `read` gave."""
        ...


class ImagePrompt(Protocol):
    """An adapter that reads a picture as a prompt (IP-Adapter). size: side of what it sees."""

    @property
    def origin(self) -> Origin: ...

    @property
    def sees_by(self) -> Origin | None:
        """Where its encoder of pictures comes from."""
        ...

    @property
    def size(self) -> int: ...

    @property
    def spots(self) -> frozenset[Spot]:
        """The attentions that it speaks to."""
        ...

    def read(self, pixels: Tensor) -> Tensor:
        """Tokens (B, N, width) of pictures (B, 3, S, S) in [-1, 1]."""
        ...

    def nothing(self) -> Tensor:
        """Tokens (1, N, width) of no picture."""
        ...

    def keys_values(self, spot: Spot, tokens: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        """What an attention's queries meet, each (B, heads, N, d)."""
        ...


class Shown(Protocol):
    """Reads what a picture shows, for decoders of unCLIP's kind. size: side of what it sees;
    levels: of noise on a vector, 1 where there is none."""

    @property
    def origin(self) -> Origin | None: ...

    @property
    def size(self) -> int: ...

    @property
    def levels(self) -> int: ...

    def read(self, pixels: Tensor, level: int, noise: Tensor | None = None) -> Tensor:
        """Vectors (B, W) of pictures (B, 3, S, S) in [-1, 1]; noise: (B, D), of that level."""
        ...

    def nothing(self) -> Tensor:
        """(1, W) of no picture."""
        ...


class Source(Protocol):
    """A model, as processes and methods see it.

    What it lends is None where it has none, or refused where it was asked for by name; a name is a
    file, a folder or org/name of the user's.
    memo: what runs of this model remember for later ones.
    """

    @property
    def name(self) -> str: ...

    @property
    def denoiser(self) -> Denoiser: ...

    @property
    def origin(self) -> Origin:
        """Of its weights and adapters together."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What its predictions come from: digest of the weights, adapters, dtype."""
        ...

    @property
    def memo(self) -> MutableMapping[Any, Any]: ...

    def grid(self, process: Process) -> Own | None:
        """What the process's spacing, "model" or "shifted", is here; None where there is none."""
        ...

    @property
    def plain(self) -> Source | None:
        """The model without its adapters, None where it has none."""
        ...

    @property
    def multiple(self) -> int:
        """What the sides of a state are multiples of."""
        ...

    def encode(
        self,
        texts: Sequence[str],
        label: int | None = None,
        beside: Sequence[str] = (),
        away: bool = False,
    ) -> Cond:
        """One row for each text; "" is the null condition. beside: the run's other texts; away:
        these are what guidance leads away from."""
        ...

    def spans(self, text: str, beside: Sequence[str] = ()) -> tuple[Span | None, ...] | None:
        """(start, end) of the characters behind each column that cross attention reads.

        Of the text as `encode` is given it. A column is None where no character stands behind it
        (start, end, padding); all is None where the network attends to no text.
        """
        ...

    def phrase(self, prompt: str) -> str:
        """The prompt that is encoded: with the card's template where it names no style."""
        ...

    def complete(self, process: Process) -> Process:
        """Fill empty slots with the card's defaults."""
        ...

    def frame(self, process: Process, place: Place) -> tuple[Frame | None, tuple[int, ...]]:
        """Geometry of the run and the shape of its state."""
        ...

    def fits(
        self, process: Process, frame: Frame | None, shape: tuple[int, ...], times: Times
    ) -> None:
        """Refuse a run that is beyond the machine's memory, before any network is called."""
        ...

    def clip(self, name: str | None = None) -> Clip | None: ...

    def vision(self, name: str | None = None) -> Vision | None:
        """A vision transformer: the named one, else the image side of the model's CLIP."""
        ...

    def classifier(self) -> Classifier | None: ...

    def features(self, name: str | None = None) -> Features | None:
        """name: a file of VGG19's weights, or "model", the denoiser's own."""
        ...

    def rating(self, name: str | None = None) -> Rating | None: ...

    def control(self, name: str) -> Control:
        """A ControlNet or T2I adapter for the denoiser's network."""
        ...

    def image_prompt(self, name: str, encoder: str | None = None) -> ImagePrompt:
        """An adapter that reads pictures, by its file; encoder: a folder with what it sees by."""
        ...

    def shown(self, encoder: str | None = None) -> Shown:
        """What reads pictures for a decoder of unCLIP's kind, by its own encoder or another."""
        ...

    def decoder(self, which: Literal["full", "tiny"] = "full") -> Decoder | None:
        """State to pixels in [-1, 1]; tiny: by a small autoencoder of the same latents."""
        ...

    def second(self, prompt: str, name: str | None = None) -> Source | None:
        """A model to run beside this one: the named one, else the card's for the prompt's style."""
        ...

    @property
    def factors(self) -> tuple[int, ...]:
        """How much larger each upsampler makes a picture."""
        ...

    def preview(self, step: Step, run: Run) -> Any:
        """A picture of a step."""
        ...

    def finish(
        self, pixels: Tensor | None, run: Run, trace: list[dict[str, Any]], calls: list[int]
    ) -> Any:
        """A Result of pixels (n, 3, H, W) in [-1, 1]; None: the picture is left as it is.

        calls: of the network, of each stage.
        """
        ...
