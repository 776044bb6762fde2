"""Parts of a prompt that are read by themselves, and stand so in the prompt's condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sfumato.core.context import Run
from sfumato.core.denoiser import Cond
from sfumato.core.lazy import torch
from sfumato.core.mixture import Branch
from sfumato.methods.common.words import columns, spans_of

if TYPE_CHECKING:
    from torch import Tensor


def read_apart(
    method: str, texts: Sequence[tuple[str, Tensor]], cond: Cond, branch: Branch, run: Run
) -> Cond:
    """A branch's condition, prepared, with each text's columns as that text alone has them.

    texts: with 1 where the columns of each row's prompt read it, (rows, K). Where a prompt has it
    several times it is read so often.
    """
    source = branch.source or run.source
    if source is None:
        return cond
    process = run.process
    denoiser = branch.denoiser or process.denoiser
    ready = denoiser.prepare(cond)
    for text, columns_of in texts:
        spans = spans_of(method, source, text, process.texts)
        own = torch.tensor(columns(method, text, spans, text))
        told = source.encode([text], process.label, process.texts)
        others = {n: v[:1] for n, v in ready.items() if not are_text(n) and n not in told}
        alone = denoiser.prepare(Cond({**others, **told}))
        for row, there in enumerate(columns_of):
            theirs = there.nonzero()[:, 0].cpu()
            if len(theirs) and len(theirs) % len(own) == 0:
                again = own.repeat(len(theirs) // len(own))
                ready = _spliced(ready, row, theirs, alone, again)
    return ready


def _spliced(cond: Cond, row: int, theirs: Tensor, alone: Cond, own: Tensor) -> Cond:
    """The condition with columns of a row's text taken from another text's."""

    def put(name: str, value: Tensor) -> Tensor:
        if not are_columns(name):
            return value
        value = value.clone()
        value[row][..., theirs, :] = alone[name][0][..., own, :]
        return value

    return Cond({name: put(name, value) for name, value in cond.items()})


def are_columns(name: str) -> bool:
    """Whether a prepared condition of that name has the text's columns as its last axis but one."""
    return name == "context" or name.startswith(("text_k.", "text_v."))


def are_text(name: str) -> bool:
    """Whether it is made of the text."""
    return are_columns(name) or name == "text_emb"
