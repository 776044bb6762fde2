"""Models that a runner keeps loaded, and what its offer is; nothing else is ever opened."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sfumato
from sfumato.core.errors import SfumatoError
from sfumato.server.offering import Offering
from sfumato.server.runner.protocol import ModelInfo, Ready
from sfumato.server.runner.shelf import Shelf

if TYPE_CHECKING:
    from sfumato.models.model import Model


@dataclass
class Warm:
    """The models of an offer, the last few used of them loaded.

    offer: name that recipes use -> what to load. adapters: files of adapters that recipes may name.
    keep: how many models stay loaded. data: the packed set that trainings learn from; None: where
    `sfumato data` puts it. weights: what methods may name. offload: of all models, as of `load`.
    """

    offer: Mapping[str, str]
    device: str = "auto"
    adapters: Sequence[Path] = ()
    keep: int = 2
    data: Path | None = None
    weights: Sequence[Offering] = ()
    offload: str = "none"
    loaded: OrderedDict[tuple[str, str], Model] = field(default_factory=OrderedDict)
    lock: Any = field(default_factory=threading.Lock)
    shelf: Shelf = field(init=False)

    def __post_init__(self) -> None:
        self.shelf = Shelf(self.weights)

    def open(
        self, name: str, *, device: str = "auto", dtype: str = "auto", offload: str = "none"
    ) -> Model:
        """The model of that name on this runner's device, whatever device was recorded."""
        from sfumato.models.loaders.library import load

        source = self.offer.get(Path(name).name, self.offer.get(name))
        if source is None:
            raise SfumatoError(
                f"model {name!r:.80}: not offered by this server; it offers {', '.join(self.offer)}"
            )
        with self.lock:  # plans ask from a second thread
            model = self.loaded.pop((source, dtype), None)
            while model is None and len(self.loaded) >= self.keep:
                self.loaded.popitem(last=False)
            model = model or load(source, device=self.device, dtype=dtype, offload=self.offload)
            self.loaded[source, dtype] = model
            return model

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where adapters lie."""
        return tuple(dict.fromkeys(file.parent for file in self.adapters))

    def ready(self) -> Ready:
        """The offer, of which the first model is loaded."""
        import torch

        if self.device.startswith("cuda:") and torch.cuda.is_available():
            torch.cuda.set_device(self.device)  # or a context on the first card would cost memory
        for file in self.adapters:
            if not file.exists():
                raise SfumatoError(f"adapter {file}: no such file; put it there")
        first = self.open(next(iter(self.offer)))
        versions = {"sfumato": sfumato.__version__, "torch": torch.__version__}
        shown = tuple(self._info(name) for name in self.offer)
        weights = {name: self.open(name).weights for name in self.offer}
        choice, files = first.choice, self.shelf.files
        return Ready(choice.device, choice.dtype, shown, versions, weights, files)

    def _info(self, name: str) -> ModelInfo:
        from sfumato.models.loaders.library import is_own

        model = self.open(name)
        card = model.card
        return ModelInfo(
            name=name,
            title=card.title,
            native=card.native,
            multiple=card.multiple,
            maximum=card.maximum,
            factor=card.factor(1 + len(card.upsamplers)),
            steps=card.defaults.steps,
            reads_text=model.text is not None,
            styles=card.styles,
            adapters=dict(card.adapters) | {file.name: file.name for file in self.adapters},
            template=card.template,
            about=card.about,
            licence=card.licence,
            own=is_own(self.offer[name]),
        )
