"""Parts of pipelines in their folders: configurations, tokenizers, networks; frozen and checked.

Models are put together from them elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from sfumato.core.errors import SfumatoError
from sfumato.models.devices import BITS, DTYPES, Choice
from sfumato.models.files import configs, hub
from sfumato.models.files.checkpoint import READ_ERRORS, is_float32
from sfumato.models.files.hashes import file_digest
from sfumato.models.files.language_models import (
    bert_config,
    gemma2_config,
    qwen2_config,
    qwen3_config,
    t5_config,
)
from sfumato.models.files.quantised_already import needed, quantisation
from sfumato.nn.pages import cast
from sfumato.nn.quantised import quantise

log = logging.getLogger("sfumato")

AUTOENCODERS = (
    "AutoencoderDC", "AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderKLQwenImage",
    "AutoencoderTiny", "VQModel",
)  # fmt: skip

LOAD_ERRORS = (*READ_ERRORS, ImportError, RecursionError)
"""What the two libraries raise on files that are damaged or of another kind."""

# diffusers imports bitsandbytes where it is installed, which then speaks of kernels of 4-bit
# networks that nothing here uses
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: "kernels" not in record.getMessage()
)


def autoencoder(folder: Path, kind: str, choice: Choice, digest: Any = None) -> Any:
    """An autoencoder in float32, frozen."""
    import diffusers

    if kind not in AUTOENCODERS:
        raise SfumatoError(f"{folder}: {kind} is not supported; {', '.join(AUTOENCODERS)} are")
    weight_files(folder)  # first says what is missing
    configs.check_autoencoder(folder / "config.json", kind)
    return load_part(getattr(diffusers, kind), folder, torch.float32, choice.home, None, digest)


def network(
    folder: Path, kind: str, choice: Choice, digest: Any, given: Mapping[str, str] | None = None
) -> Any:
    """A UNet; given: what its family reads besides (configs.ABSENT)."""
    import diffusers

    weight_files(folder)  # first says what is missing
    configs.check_unet(folder / "config.json", kind, given)
    return load_part(getattr(diffusers, kind), folder, *of(choice), digest, lean=True)


def transformer(folder: Path, kind: str, choice: Choice, digest: Any) -> Any:
    """A transformer whose configuration its family has checked."""
    import diffusers

    return load_part(getattr(diffusers, kind), folder, *of(choice), digest)


def gguf_transformer(folder: Path, kind: str, file: Path, choice: Choice, digest: Any) -> Any:
    """The same with the weights of a GGUF file, which stay as they are and are put together again
    at each call."""
    import diffusers

    needed("gguf", file)
    cls = getattr(diffusers, kind)
    if not hasattr(cls, "from_single_file"):
        raise SfumatoError(f"{file}: diffusers reads no single files of {kind}; take its folder")
    _check_bits(file, BITS.get(choice.dtype))
    dtype = DTYPES[choice.dtype]
    kind_of: Any = diffusers.GGUFQuantizationConfig
    told = kind_of(compute_dtype=dtype)
    try:
        with quiet():
            net = cls.from_single_file(
                str(file), config=str(folder), quantization_config=told, torch_dtype=dtype,
                local_files_only=True,
            )  # fmt: skip
    except IndexError:
        raise SfumatoError(f"{file}: its weights are not those of {kind}") from None
    except LOAD_ERRORS as error:
        raise SfumatoError(f"{file}: cannot be loaded ({_reason(error)})") from None
    report(file.name, {"missing_keys": [n for n, p in net.named_parameters() if p.is_meta]})
    digest.update(file_digest(file).encode())
    return net.eval().requires_grad_(False).to(choice.home)


def _check_bits(what: Path, bits: int | None) -> None:
    if bits is not None:
        raise SfumatoError(
            f"{what}: its weights are quantised already, so dtype int{bits} says nothing; leave "
            "it out"
        )


def t5(folder: Path, choice: Choice, digest: Any) -> Any:
    """T5's encoder."""
    return _reader_of_prompts("T5EncoderModel", t5_config, folder, choice, digest)


def qwen3(folder: Path, choice: Choice, digest: Any) -> Any:
    """Qwen3 without its head."""
    return _reader_of_prompts("Qwen3Model", qwen3_config, folder, choice, digest)


def qwen2(folder: Path, choice: Choice, digest: Any) -> Any:
    """The words' network of a Qwen2.5-VL, without its eyes and its head.

    Of words alone its places in three directions are the same, and it is a Qwen2.
    """
    return _reader_of_prompts(
        "Qwen2Model", qwen2_config, folder, choice, digest,
        beside=("visual.", "model.visual.", "lm_head."),
        key_mapping={r"^(model\.)?language_model\.": ""},
    )  # fmt: skip


def bert(folder: Path, choice: Choice, digest: Any) -> Any:
    """BERT without its head."""
    return _reader_of_prompts("BertModel", bert_config, folder, choice, digest)


def gemma2(folder: Path, choice: Choice, digest: Any) -> Any:
    """Gemma 2 without its head."""
    return _reader_of_prompts(
        "Gemma2Model", gemma2_config, folder, choice, digest, beside=("lm_head.",)
    )


def _reader_of_prompts(
    kind: str,
    config_of: Callable[[Path], Any],
    folder: Path,
    choice: Choice,
    digest: Any,
    beside: tuple[str, ...] = (),
    **more: Any,
) -> Any:
    """A network of transformers by its class; beside, more: as of `load_part`."""
    import transformers

    weight_files(folder)  # first says what is missing
    config = config_of(folder / "config.json")
    return load_part(
        getattr(transformers, kind), folder, *of(choice), digest, config, beside, **more
    )


def load_part(
    cls: Any,
    folder: Path,
    dtype: torch.dtype,
    device: str,
    bits: int | None = None,
    digest: Any = None,
    config: Any = None,
    beside: tuple[str, ...] = (),
    lean: bool = False,
    **more: Any,
) -> Any:
    """A part of the pipeline, frozen, from its safetensors or (weights only) its pickle.

    bits: that inner layers' weights are kept in, before they go to the device. config: in place of
    the file's, where the class takes one. beside: how names of weights begin
    that are in the files and not in the part. lean: whether its weights are cast one by one, which
    never has the file's and the part's in memory together; for classes that compute no buffers and
    keep no layers in float32. more: what the class is told beside.
    """
    if (folder / "adapter_config.json").exists():  # transformers would follow the path in it
        raise SfumatoError(f"{folder}: adapter_config.json; take it out and give it by --adapt")
    files = weight_files(folder)
    quantised = quantisation(folder / "config.json")
    if quantised is not None:
        _check_bits(folder, bits)
    for index in folder.glob("*.index*.json"):
        configs.shards(index)
    variant = hub.variant_of(files[0].name)
    options: dict[str, Any] = {"local_files_only": True, "output_loading_info": True, **more}
    if config is not None:
        if quantised is not None:
            config.quantization_config = quantised
        options["config"] = config
    if quantised is not None and device != "cpu":  # bitsandbytes' are not moved afterwards
        options["device_map"] = {"": device}
    read = torch.float32 if lean and is_float32(files[0]) else dtype
    options["dtype" if _takes_dtype(cls) else "torch_dtype"] = read
    options["use_safetensors"] = files[0].suffix == ".safetensors"
    try:
        with quiet():
            net, info = cls.from_pretrained(str(folder), variant=variant, **options)
    except LOAD_ERRORS as error:
        raise SfumatoError(f"{folder}: cannot be loaded ({_reason(error)})") from None
    report(folder.name, info, beside)
    if digest is not None:
        for file in files:
            digest.update(file_digest(file).encode())
    net = net.eval().requires_grad_(False)
    if read != dtype:
        cast(net, dtype)
    if bits is not None:
        quantise(net, bits)
    return net.to(device) if quantised is None else net


def of(choice: Choice) -> tuple[torch.dtype, str, int | None]:
    """Type, device and bits of a part's weights."""
    return DTYPES[choice.dtype], choice.home, BITS.get(choice.dtype)


def _reason(error: Exception) -> str:
    """The first line of a foreign error, without advice to read pickles that run code."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "weights_only" in text:
        return "its pickle holds Python objects besides tensors, or is damaged"
    return text[:200]


@contextmanager
def quiet() -> Iterator[None]:
    """Without the two libraries' progress bars and load reports; `report` says what matters."""
    import diffusers.utils.logging as first
    import transformers.utils.logging as second

    before = [
        (module, module.is_progress_bar_enabled(), module.get_verbosity())
        for module in (first, second)
    ]
    for module, _, _ in before:
        module.disable_progress_bar()
        module.set_verbosity_error()
    try:
        yield
    finally:
        for module, had_bar, level in before:
            module.set_verbosity(level)
            if had_bar:
                module.enable_progress_bar()


def _takes_dtype(cls: Any) -> bool:
    """transformers 5 has renamed torch_dtype."""
    import transformers

    major = int(transformers.__version__.split(".")[0])
    return major >= 5 and cls.__module__.startswith("transformers")


def report(name: str, info: Mapping[str, Any], beside: tuple[str, ...] = ()) -> None:
    """Say what did not fit; weights that are missing are an error."""
    missing = [key for key in info.get("missing_keys", ()) if not key.endswith("position_ids")]
    if missing:
        raise SfumatoError(
            f"{name}: {len(missing)} weights are missing, such as {sorted(missing)[0]}; "
            "the files belong to another configuration"
        )
    unexpected = [
        key
        for key in info.get("unexpected_keys", ())
        if not key.endswith("position_ids") and not key.startswith(beside)
    ]
    if unexpected:
        log.warning("%s: %d unexpected weights, not used: %s", name, len(unexpected), unexpected[0])


def weight_files(folder: Path) -> list[Path]:
    """A part's weight files: safetensors before pickles, full precision before variants."""
    stems = ("diffusion_pytorch_model", "model", "pytorch_model")
    for ending in ("safetensors", "bin"):
        files = [
            file
            for file in sorted(folder.glob(f"*.{ending}"))
            if file.name.startswith(stems) and "non_ema" not in file.name
        ]
        for variant in hub.VARIANTS:
            group = [file for file in files if hub.variant_of(file.name) == variant]
            if group:
                return group
    raise SfumatoError(
        f"{folder}: no weights there; the model is incomplete, `sfumato models pull` completes it"
    )


def tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer of a folder."""
    import transformers

    configs.check_tokenizer(folder)
    # of transformers 4 only the fast one reads a tokenizer.json
    plain = (folder / "vocab.json").is_file()
    cls: Any = getattr(transformers, "CLIPTokenizer" if plain else "CLIPTokenizerFast")
    try:
        return cls.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises nothing more special than that
        raise SfumatoError(f"{folder}: cannot be loaded ({_reason(error)})") from None


def check_tokens(tokenizer: Any, size: int, folder: Path) -> None:
    """Refuse a tokenizer whose own tokens are no rows of a text encoder's table of that size."""
    for name in ("bos", "eos", "pad"):
        token = getattr(tokenizer, f"{name}_token_id")
        if name == "pad" and token is None:
            continue
        if token is None or not 0 <= token < size:
            raise SfumatoError(
                f"{folder}: its {name} token is {token}, the text encoder has {size}; the "
                "tokenizer belongs to another model"
            )


def encoder(folder: Path, kind: str, choice: Choice, digest: Any) -> Any:
    import transformers

    config = configs.text_encoder_config(folder / "config.json")
    return load_part(getattr(transformers, kind), folder, *of(choice), digest, config)


def stamped(name: str | None) -> tuple[Any, ...]:
    """A name, and what tells whether its file, or the files of its folder, have changed."""
    if name is None:
        return (None,)
    stamps: list[tuple[Any, ...]] = []
    with suppress(OSError, ValueError, RuntimeError):  # a name that is no path has no stamp
        path = Path(name).expanduser()
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            status = file.stat()
            stamps.append((file.name, status.st_size, status.st_mtime_ns, status.st_ino))
    return (name, tuple(stamps))
