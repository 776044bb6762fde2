"""Which files are adapters: how they are called, in which folders they lie, what holds none yet."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from sfumato.core.errors import SfumatoError
from sfumato.documents import is_there
from sfumato.models.files import hub
from sfumato.recipe.places import called

LOW_RANK_ENDINGS = (
    ".down",
    ".lora_A.weight",
    ".lora_down.weight",
    ".lora.down.weight",
    "_lora.down.weight",
)
"""How the names of low-rank layers end, in our files and in others'."""

CHECKPOINT = "state.safetensors"  # of a training; no result
FILES = (
    "adapter.safetensors",
    "pytorch_lora_weights.safetensors",
    "learned_embeds.safetensors",
    "learned_embeds.bin",
    "learned_layers.safetensors",
)


def recorded_name(adapter: str | Path, file: Path) -> str:
    """How a recipe calls it: org/name, else the file's own name without its folders."""
    text = str(adapter)
    return text if hub.is_name(text) and not is_there(Path(text)) else called(str(file))


def is_adapter(path: Path) -> bool:
    """Whether a file or folder is an adapter rather than a model."""
    if path.is_dir():
        return any((path / name).is_file() for name in FILES)
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
    except SafetensorError as error:
        raise SfumatoError(f"{path}: damaged or incomplete ({error}); save it again") from None
    return any(name.endswith(LOW_RANK_ENDINGS) for name in names)


def only_file(folder: Path) -> Path:
    """The file of a folder that holds one adapter."""
    files = [folder / name for name in FILES if (folder / name).is_file()]
    tensor_files = sorted(folder.glob("*.safetensors"))
    files = files or [file for file in tensor_files if file.name != CHECKPOINT]
    if tensor_files and not files:
        raise unfinished_error(folder)
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "no safetensors file"
        raise SfumatoError(f"adapter {folder}: {names} there; give the path of one file")
    return files[0]


def unfinished_error(folder: Path) -> SfumatoError:
    """Of a run folder without a result."""
    best = next(iter(sorted((folder / "best").glob("*.safetensors"))), None)
    hint = f", or take {best.parent}, the best so far" if best else ""
    return SfumatoError(
        f"adapter {folder}: holds a training that is not finished; give its command again to go "
        f"on{hint}"
    )
