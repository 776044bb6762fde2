"""Every subject in every prompt, as plain data and as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sfumato.core.errors import SfumatoError
from sfumato.measure.protocol.measures import MEASURES, Networks, measure_subject
from sfumato.measure.protocol.pictures import Runs, generated_elsewhere
from sfumato.measure.protocol.subjects import Subject, omit
from sfumato.metrics.kernel import interval
from sfumato.train.subject.class_pictures import pixels
from sfumato.train.subject.shots import read_shots


def evaluate(
    asked: Sequence[Subject],
    networks: Networks,
    source: Runs | Path,
    omitted: list[str],
    done: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """All measures as plain data. source: runs to make pictures by, or a folder of made ones.

    Means are over subjects, and so are their intervals. omitted: what is left out, and why; done:
    called after each prompt.
    """
    rows: list[dict[str, Any]] = []
    for one in asked:
        place = source.note(one) if isinstance(source, Runs) else source / one.name
        try:
            photos = [pixels(shot.picture) for shot in read_shots(one.folder)]
        except SfumatoError as error:
            omit(omitted, str(error))
            continue
        if not place.exists():
            omit(omitted, f"{one.name}: no {place}")
            continue
        facts: dict[str, Any] = {}
        if isinstance(source, Runs):
            files, alone, facts = source.pictures(one, done)
        else:
            files, alone = generated_elsewhere(one, place, omitted)
        pictures = [pair for pair in zip(one.prompts(), files, strict=True) if pair[1]]
        if not pictures:
            continue
        estimates, ceilings = measure_subject(networks, photos, pictures, alone)
        facts |= {"CLIP reads": [text for text, _ in pictures], "real": ceilings}
        facts |= {"photos": len(photos), "pictures": sum(len(batch) for _, batch in pictures)}
        facts |= {"measures": {name: asdict(value) for name, value in estimates.items()}}
        rows.append({"name": one.name, "class": one.noun, **facts})
    if not rows:
        raise SfumatoError(f"eval: no subject could be measured: {'; '.join(omitted)}")
    means, real = {}, {}
    for name, network in MEASURES.items():
        values = [row["measures"][name]["value"] for row in rows if name in row["measures"]]
        apart = [row["real"][name] for row in rows if name in row["real"]]
        if values:
            means[name] = asdict(interval(values))
        else:
            absent = getattr(networks, network) is None
            omit(omitted, f"{name}: no {'--' + network if absent else 'pictures enough'}")
        if apart:
            real[name] = asdict(interval(apart))
    report = {"subjects": rows, "mean": means, "real": real, "left out": omitted}
    return {"protocol": "dreambooth", **report}


def cell(value: Mapping[str, Any] | None) -> str:
    """A value with its interval; a single number has none."""
    if value is None:
        return "-"
    ends = " [{low:.3f}, {high:.3f}]" if value["n"] > 1 else ""
    return ("{value:.3f}" + ends).format(**value)


def table(report: Mapping[str, Any]) -> str:
    """The report for people: a row for each subject, the mean, the photos with each other."""
    names = [name for name in MEASURES if name in report["mean"]]
    lines = [["subject", "class", "pictures", *names]]

    def row(first: str, second: str, count: int, values: Mapping[str, Any]) -> None:
        lines.append([first, second, str(count), *(cell(values.get(name)) for name in names)])

    for one in report["subjects"]:
        row(one["name"], one["class"], one["pictures"], one["measures"])
    row("mean", "", sum(one["pictures"] for one in report["subjects"]), report["mean"])
    row("real photos", "", sum(one["photos"] for one in report["subjects"]), report["real"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in lines]
    rows.append("95 % intervals: over a subject's pictures (DIV: its prompts), over subjects")
    if "CLIP-T" in names:
        rows.append("CLIP-T is of the prompts without the subject's name")
    return "\n".join([*rows, *(f"left out: {line}" for line in report["left out"])])
