"""`sfumato eval`: measure a text-to-image model, or by a benchmark's own protocol."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from sfumato.cli.options import keyword
from sfumato.cli.verb import Verb
from sfumato.cli.verbs.shared import COMMON, refuse_empty
from sfumato.core.errors import SfumatoError

STYLES = "3d render"
OPTIONS = (
    keyword("model", str | None, None, "--model", text="emoji; of --runs the runs' own"),
    keyword("styles", str, STYLES, "--styles", text="styles that have a judge, a,b"),
    keyword("scales", str | None, None, "--scales", text="guidance scales, such as 1,2,3,4"),
    keyword("n", int | None, None, "-n", text="pictures, 200: 1 a prompt; of --runs a prompt's, 4"),
    keyword("seed", int, 0, "--seed", text="picture k has seed + k"),
    keyword("features", str | None, None, "--features", text="your Inception, DINO or CLIP"),
    keyword("data", str | None, None, "--data", text="packed set for --features, or the subjects"),
    keyword("output", str | None, None, "-o", "--output", text="JSON file; --protocol: folder"),
    keyword("protocol", str | None, None, "--protocol", text="dreambooth: its own benchmark"),
    keyword("runs", str | None, None, "--runs", text="a run of each subject, to make pictures"),
    keyword("generated", str | None, None, "--generated", text="SUBJECT/PROMPT/*.png instead"),
    keyword("dino", str | None, None, "--dino", text="folder of DINO, for DINO and PRES"),
    keyword("clip", str | None, None, "--clip", text="folder of a CLIP, for CLIP-I and CLIP-T"),
    keyword("lpips", str | None, None, "--lpips", text="TorchScript file of LPIPS, for DIV"),
    keyword("steps", int | None, None, "--steps", text="of the pictures of --runs"),
    *COMMON,
)
FIRST = frozenset(("--model", "--styles", "--scales", "-n", "--seed", "--output", "--protocol"))


def evaluate(
    model: str | None,
    styles: str,
    scales: str | None,
    n: int | None,
    seed: int,
    features: str | None,
    data: str | None,
    output: str | None,
    device: str,
    dtype: str,
    offload: str,
    as_json: bool,
    quiet: bool,
    protocol: str | None = None,
    **of_protocol: Any,
) -> None:
    """Measure and say it. of_protocol: options that belong to --protocol alone."""
    from sfumato.cli.remote.chosen import chosen

    refuse_empty(
        model=model, styles=styles, scales=scales, features=features, data=data,
        protocol=protocol, **of_protocol,
    )  # fmt: skip
    server = chosen()
    if protocol is not None:
        if server is not None and server.typed:
            raise SfumatoError(
                "--protocol: measures runs and pictures of this machine; leave --server out"
            )
        if protocol != "dreambooth":
            raise SfumatoError(f"--protocol {protocol}: unknown; there is dreambooth")
        if scales is not None or features is not None:
            raise SfumatoError("--protocol: takes neither --scales nor --features; leave them out")
        if styles != STYLES:
            raise SfumatoError("--protocol: takes no --styles; leave that out")
        of_protocol |= {
            "model": model, "n": n, "seed": seed, "device": device, "dtype": dtype,
            "offload": offload,
        }  # fmt: skip
        subjects_measured(data, output, of_protocol, as_json, quiet)
        return
    if used := [name for name, value in of_protocol.items() if value is not None]:
        raise SfumatoError(f"--{used[0]}: needs --protocol dreambooth")
    if data is not None and features is None:
        raise SfumatoError("--data: is compared by --features; give that too, or leave --data out")
    from sfumato.cli import show
    from sfumato.images.destination import check_file
    from sfumato.images.writing import write_safely
    from sfumato.measure.evaluate import Own
    from sfumato.measure.evaluate import evaluate as measured
    from sfumato.measure.features import load as load_features
    from sfumato.models.loaders import library

    try:
        asked = [float(scale) for scale in scales.split(",")] if scales else [None]
    except ValueError:
        raise SfumatoError(f"--scales {scales}: write numbers, such as 1,2,3,4") from None
    if output is not None:
        check_file(Path(output))
    own = None
    if features is not None:
        own = Own(load_features(features), None if data is None else Path(data))
    wanted: dict[str, Any] = {
        "own": own,
        "styles": [style.strip() for style in styles.split(",")],
        "scales": asked,
        "n": 200 if n is None else n,
        "seed": seed,
        "say": (lambda line: None) if as_json else print,
    }
    if server is not None:
        from sfumato.cli.remote.evaluating import evaluated
        from sfumato.cli.remote.sent import check_here

        check_here({"device": device, "offload": offload})
        report = evaluated(server, model or "emoji", dtype=dtype, **wanted)
    else:
        loaded = library.load(model or "emoji", device=device, dtype=dtype, offload=offload)
        report = measured(loaded, **wanted)
    if output is not None:
        written = write_safely(Path(output), json.dumps(report, indent=1).encode())
        if written.trouble:
            raise SfumatoError(written.trouble)
        if written.path != Path(output):
            show.errors.print(f"{output}: exists; the report is {written.path}")
    if as_json:
        print(json.dumps(report))


def subjects_measured(
    data: str | None, output: str | None, of_protocol: dict[str, Any], as_json: bool, quiet: bool
) -> None:
    """`sfumato eval --protocol dreambooth`."""
    from sfumato.cli import show
    from sfumato.images.writing import write_whole
    from sfumato.measure import protocol
    from sfumato.models.devices import choose

    if data is None:
        raise SfumatoError("--protocol: give --data, the folder of the public data set")
    runs, generated, n = of_protocol["runs"], of_protocol["generated"], of_protocol["n"]
    if (runs is None) == (generated is None):
        raise SfumatoError("--protocol: give --runs or --generated, one of them")
    if runs is not None and output is None:
        raise SfumatoError("--runs: give -o, the folder that keeps the pictures")
    if idle := [k for k in ("n", "steps", "model") if runs is None and of_protocol[k] is not None]:
        raise SfumatoError(f"--generated: makes no pictures, so {idle[0]} says nothing")
    source: Any = Path(str(generated))
    if runs is not None:
        names = ("seed", "steps", "model", "device", "dtype", "offload")
        how = {name: of_protocol[name] for name in names}
        source = protocol.Runs(Path(runs), Path(str(output)), 4 if n is None else n, **how)
    left: list[str] = []
    asked = protocol.subjects(data, left)
    files = {name: of_protocol[name] for name in ("dino", "clip", "lpips")}
    device = choose(of_protocol["device"], of_protocol["dtype"]).device
    networks = protocol.Networks.of(**files, device=device)
    total = sum(len(one.templates) + protocol.CLASS_BATCHES for one in asked)
    with show.counted("prompts", total, quiet or runs is None) as update:
        count = itertools.count(1)
        report = protocol.evaluate(asked, networks, source, left, lambda: update(next(count)))
    report["networks"] = {name: Path(file).name for name, file in files.items() if file}
    table = protocol.table(report)
    if output is not None:
        folder = Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "report.json", json.dumps(report, indent=1).encode())
        write_whole(folder / "report.txt", f"{table}\n".encode())
    print(json.dumps(report) if as_json else table)


EVAL = Verb(
    "eval",
    evaluate,
    "Measure a text-to-image model.",
    OPTIONS,
    ("--scales 1,2,3,4", "--model org/name -n 50 -o report.json"),
    FIRST,
)
