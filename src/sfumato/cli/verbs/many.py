"""Verbs that run another verb many times: what `batch` and `sweep` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import Parameter

from sfumato.cli.makers import Maker
from sfumato.cli.verbs.generate import RUN
from sfumato.cli.verbs.shared import COMMON


def options(maker: Maker, own: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """Of every run, of the program and of other methods; then `own`, and the method's presets."""
    return (*RUN, *COMMON, *maker.others.parameters, *own, *maker.preset)
