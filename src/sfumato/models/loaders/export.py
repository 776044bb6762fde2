"""Models as files to carry: a folder of everything a model needs, and pickles made safetensors."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from sfumato.core.errors import SfumatoError
from sfumato.models.files import adapter_files, hub, learned_words
from sfumato.models.files.checkpoint import read_state_dict
from sfumato.models.loaders import library

PICKLES = (".pt", ".ckpt", ".bin", ".pth")


def export(name: str, folder: Path) -> Path:
    """Copy a model's files into a new folder, from which `load` reads them without a network.

    Links to the blobs of the hub's own repository are followed, every other link, pipe or device
    is refused, as a folder that is not empty is.
    """
    source = library.folder_of(name)
    if source is None:
        library.load(name)  # says why not
    assert source is not None
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SfumatoError(f"{folder}: exists and is not empty; give a new folder")
    if folder.resolve().is_relative_to(source.resolve()):
        raise SfumatoError(f"{folder}: lies in the model itself; give a folder elsewhere")
    files = _files(source) if source.is_dir() else {source.name: source}
    scratch: Path | None = (
        None  # of a name that nobody has, so that nothing of the user's is removed
    )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".sfumato-", dir=folder.parent))
        part = scratch / "part"
        part.mkdir()
        for name, file in files.items():
            target = part / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
        if folder.exists():
            folder.rmdir()
        part.replace(folder)
    except (OSError, shutil.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SfumatoError(f"{folder}: could not be written ({reason:.200})") from None
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _files(source: Path) -> dict[str, Path]:
    """Every file of a model folder by its name there, with what is to be copied for it."""
    root, blobs = source.resolve(), hub.blob_folder(source)
    files = {}
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder) / name
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            real = path.resolve() if stat.S_ISLNK(mode) else path
            if real != path and (blobs is None or real.parent != blobs):
                raise SfumatoError(
                    f"{path}: is a link that leads out of the model; put the file itself there"
                )
            if not stat.S_ISREG(real.lstat().st_mode if real.exists() else 0):
                raise SfumatoError(f"{path}: is no regular file, so the model is not copied")
            files[str(path.relative_to(root))] = real
    return files


def convert(file: Path, target: Path) -> tuple[Path, int]:
    """A pickled checkpoint's tensors as safetensors; the file and how many there are.

    The pickle is read with weights_only, so that nothing in it runs. Learned words of the web
    interface become the form with emb_params.
    """
    if target.suffix != ".safetensors":
        raise SfumatoError(f"{target}: give a name that ends in .safetensors")
    if target.exists():
        raise SfumatoError(f"{target}: exists; give another name, nothing is overwritten")
    if file.suffix in PICKLES and file.is_file():
        raw, _ = adapter_files.read_adapter(file)
        words = learned_words.words_of(raw, file)
        if "string_to_param" in raw:
            tensors = {"emb_params": next(iter(words.values()))[0]}
        else:
            tensors = read_state_dict(file)
    else:
        tensors = read_state_dict(file)
    part = target.with_name(f".{target.name}.part")
    try:
        # clones: safetensors refuses tensors that share memory, which pickles allow
        save_file({k: v.clone().contiguous() for k, v in tensors.items()}, part, {"format": "pt"})
        part.replace(target)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SfumatoError(f"{target}: could not be written ({reason:.200})") from None
    finally:
        part.unlink(missing_ok=True)
    return target, len(tensors)
