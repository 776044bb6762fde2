"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sfumato.cli.options import keyword
from sfumato.core.errors import SfumatoError
from sfumato.home import unstored

OUTPUT = keyword(
    "output",
    str,
    "{prompt}-{seed}.png",
    "-o",
    "--output",
    text="file, folder or pattern; never overwrites",
)
SHEET = keyword("sheet", bool, False, "--sheet", text="also save a captioned contact sheet")
EMBED = keyword("embed", bool, False, "--embed", text="put the inputs into the recipe")
NO_STORE = keyword(
    "no_store", bool, False, "--no-store", text="do not keep the inputs for `sfumato run`"
)
PLAN = keyword("plan", bool, False, "--plan", text="say what would run, and stop")
DEVICE = keyword("device", str, "auto", "--device", text="auto, cuda, mps, xpu, cpu")
DTYPE = keyword(
    "dtype", str, "auto", "--dtype",
    text="auto, float32, bfloat16, float16; int8, int4: weights in fewer bits",
)  # fmt: skip
OFFLOAD = keyword(
    "offload", str, "none", "--offload",
    text="modules, layers: what lies in main memory while the device does not use it",
)  # fmt: skip
AS_JSON = keyword("as_json", bool, False, "--json", text="results as one JSON object")
QUIET = keyword("quiet", bool, False, "--quiet", "-q", text="no progress, no notices")
DEBUG = keyword("debug", bool, False, "--debug", text="show where an error came from")
COMMON = (DEVICE, DTYPE, OFFLOAD, AS_JSON, QUIET, DEBUG)


def refuse_empty(**values: Any) -> None:
    """An option that is given as "" would be taken for one that is not given."""
    for name, value in values.items():
        if value == "":
            raise SfumatoError(f"--{name}: is empty; leave it out, or say which")


def storing(values: Mapping[str, Any]) -> AbstractContextManager[None]:
    """The context of a run that keeps its inputs, or with --no-store does not."""
    return unstored() if values["no_store"] else nullcontext()
