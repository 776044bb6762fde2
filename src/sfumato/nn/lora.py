"""Low-rank adapters: W + (alpha / rank) B A on chosen layers (LoRA, arXiv 2106.09685).

A state is {"LAYER.down": A, "LAYER.up": B} with the rank in the shapes; the scale alpha / rank is
kept beside it. How files of other programs name theirs is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sfumato.core.errors import SfumatoError

PARTS = {
    "attention": ("qkv", "encoder_kv", "proj_out", "c_qkv", "c_proj"),
    "conv": ("in_layers.2", "out_layers.3", "skip_connection", "op", "conv"),
    "embedding": ("emb_layers.1",),
    "cross": ("to_q", "to_k", "to_v", "to_out.0"),
    "text_kv": ("encoder_kv", "attn2.to_k", "attn2.to_v"),
    "text": ("q_proj", "k_proj", "v_proj", "out_proj"),
}
"""What a target's name stands for: the ends of layers' names."""


class LowRank(nn.Module):
    """The parametrisation of one weight: rows (out, in * kernel)."""

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        out, inner = weight.shape[0], weight[0].numel()
        self.down = nn.Parameter(torch.randn(rank, inner).to(weight.device) * inner**-0.5)
        self.up = nn.Parameter(torch.zeros(out, rank, device=weight.device))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        return weight + delta(self.down, self.up, self.scale, weight)


def delta(down: Tensor, up: Tensor, scale: float, like: Tensor) -> Tensor:
    """scale up down, shaped and typed like the weight."""
    return (scale * (up @ down)).view_as(like).to(like.dtype)


def layers(
    net: nn.Module, targets: Sequence[str], without: Sequence[str] = ()
) -> dict[str, nn.Module]:
    """Layers with a weight whose names end as the targets say (names of PARTS, or endings).

    without: beginnings of names that are left out.
    """
    ends = tuple(end for target in targets for end in PARTS.get(target, (target,)))
    adapted: dict[str, nn.Module] = {
        name: module
        for name, module in net.named_modules()
        if name.endswith(ends)
        and not name.startswith(tuple(without))
        and isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    }
    if not adapted:
        raise SfumatoError(f"adapter: no layer ends in {', '.join(ends)}")
    return adapted


def attach(
    net: nn.Module, rank: int, alpha: float, targets: Sequence[str], without: Sequence[str] = ()
) -> dict[str, nn.Parameter]:
    """Freeze the network and put adapters on its layers; their parameters by name."""
    if rank < 1:
        raise SfumatoError(f"adapter: rank {rank}; must be 1 or more")
    net.requires_grad_(False)
    parameters: dict[str, nn.Parameter] = {}
    for name, layer in layers(net, targets, without).items():
        weight = layer.weight
        assert isinstance(weight, Tensor)
        low = LowRank(weight, rank, alpha / rank)
        parametrize.register_parametrization(layer, "weight", low)
        parameters |= {f"{name}.down": low.down, f"{name}.up": low.up}
    return parameters


class Rows(nn.Module):
    """The parametrisation of a table of which a few rows are learned: what is added to them."""

    def __init__(self, weight: Tensor, rows: Sequence[int]) -> None:
        super().__init__()
        self.rows = torch.tensor(list(rows), device=weight.device)
        self.added = nn.Parameter(torch.zeros(len(self.rows), weight.shape[1]).to(weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return weight.index_add(0, self.rows, self.added.to(weight.dtype))

    def pair(self, added: Tensor, size: int, scale: float) -> dict[str, Tensor]:
        """down and up of the adapter that says the same of a table of that size."""
        up = torch.zeros(size, len(self.rows))
        up[self.rows.cpu(), torch.arange(len(self.rows))] = 1 / scale
        return {"down": added, "up": up}


def attach_rows(table: nn.Embedding, rows: Sequence[int]) -> Rows:
    """Learn these rows of a frozen table alone."""
    learned = Rows(table.weight, rows)
    parametrize.register_parametrization(table, "weight", learned)
    return learned


def original(layer: nn.Module) -> Tensor:
    """The frozen weight under an attached adapter."""
    weight: Tensor = layer.parametrizations.weight.original  # type: ignore[union-attr, assignment]
    return weight


def merged(
    weights: Mapping[str, Tensor], adapter: Mapping[str, Tensor], scale: float
) -> dict[str, Tensor]:
    """Weights with an adapter added; only the tensors it touches are copied.

    scale: alpha / rank times the strength wanted. An adapter that fits nowhere is an error.
    """
    summed = dict(weights)
    names = [name.removesuffix(".down") for name in adapter if name.endswith(".down")]
    if missing := [name for name in names if f"{name}.weight" not in weights]:
        raise SfumatoError(
            f"adapter: {len(missing)} of its {len(names)} layers are not in this network "
            f"({missing[0]}); it belongs to another model"
        )
    if not names:
        raise SfumatoError("adapter: holds no layers")
    for name in names:
        weight = weights[f"{name}.weight"]
        down, up = (adapter[f"{name}.{part}"].to(weight.device).float() for part in ("down", "up"))
        if up.shape[0] != weight.shape[0] or down.shape[1] != weight[0].numel():
            raise SfumatoError(f"adapter: {name} has other sizes in this network")
        total = weight.float() + delta(down, up, scale, weight.float())
        layout = torch.empty_like(weight).copy_(total)  # keeps the weight's memory format
        summed[f"{name}.weight"] = layout
    return summed
