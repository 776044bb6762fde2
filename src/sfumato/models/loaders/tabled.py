"""What transformers with a table of noise, which are no flows, load alike."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.core.denoiser import Network
from sfumato.models.card import Defaults
from sfumato.models.files.spans import Reader


@dataclass(frozen=True, eq=False)
class Tabled:
    """A family's parts of a pipeline.

    outputs: channels that the network gives; cells: a state's native side; patch: cells to a
    token's side.
    """

    network: Network
    text: Reader
    title: str
    outputs: int
    cells: int
    patch: int
    defaults: Defaults
