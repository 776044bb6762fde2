"""A page for each installed method: what it does, its fields with ranges and defaults, its call.

All of it is read from the class: its docstring, its schema, its examples. SAMPLES has the values
that an example shows where a field's kind says too little.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from docsite import DOCS, EXAMPLES, prose
from docsite.examples import caption
from sfumato.cli.fields import as_typed, limit, method_parameters, plain, repeated
from sfumato.core.idle import Needs
from sfumato.images import ImageInput
from sfumato.methods import Method, described, main_field, registry, schema

SAMPLES: Mapping[str, Mapping[str, Any]] = {
    "asyrp": {"file": "shift.safetensors", "image": "photo.png"},
    "boundary_diffusion": {"file": "boundary.safetensors", "image": "photo.png"},
    "classifier": {"target": "ink"},
    "controlnet": {"hint": "edges.png", "file": "control.safetensors"},
    "dense_diffusion": {"regions": ("red heart=0,0,0.5,1", "green apple=0.5,0,1,1")},
    "diffuseit": {"text": "ink drawing"},
    "flow_edit": {"source": "a cat on a sofa"},
    "inpaint": {"mask": "mask.png"},
    "ip_adapter": {"file": "adapter.safetensors"},
    "prompt_to_prompt": {"edited": ("green apple, 3d render",)},
    "refine": {"model": "org/refiner"},
    "sine": {"tuned": "castle/", "caption": "a sks castle"},
    "stego": {"message": "at noon", "key": "elm"},
    "threshold": {"mode": "dynamic"},
}
NO_MAIN = ("inpaint", "diffuseit")
"""Methods of which an example shows other fields than the main one."""
GUIDES = {
    "distilled_guidance": ["models.md#flow-models"],
    "flow_edit": ["models.md#flowedit"],
    "inpaint": ["masks.md"],
    "reference": ["models.md#flow-models"],
    "refine": ["models.md#sdxls-refiner"],
    "rf_inversion": ["models.md#rf-inversion"],
    "sdedit": ["masks.md", "studio.md"],
    "variation": ["models.md#decoders-that-read-what-a-picture-shows"],
}
"""Sections that tell of a method, beside the page of its name."""


def pages() -> dict[str, str]:
    """Page by its path in the site, and the index of all."""
    made = {f"methods/{name}.md": page(cls) for name, cls in registry().items()}
    return {**made, "methods/index.md": index()}


def page(cls: type[Method]) -> str:
    """A method's page in Markdown; links are as from a page in docs/."""
    brief, rest = texts(cls)
    parts = [f"# {cls.__name__}", prose.markdown(brief)]
    scripts = examples(cls)
    for script in scripts[:1]:
        parts.append(f"![{caption(script)}](gallery/{script}.webp)")
    parts.append("\n".join(["```", *commands(cls), "```"]))
    parts.append("\n".join(["```python", in_python(cls), "```"]))
    if rest:
        parts += ["## What it does", prose.markdown(rest)]
    parts += ["## Fields", "\n".join(table(cls))]
    if cls.presets:
        parts += ["## Presets", "\n".join(presets(cls))]
    parts += ["## In a process", "\n".join(f"- {line}" for line in facts(cls))]
    parts += ["## More", "\n".join(f"- {line}" for line in more(cls, scripts))]
    return "\n\n".join(parts) + "\n"


def index() -> str:
    """All methods, those with a verb of their own first."""
    lines = [
        "# All methods",
        "",
        "Each is a value with fields: options on the command line, arguments in Python, the",
        "same names in a recipe. [Choose your method](choose.md) goes by what you have and want,",
        "[compositions](compositions.md) says which do not go together.",
    ]
    for title, verb in (("With a verb of their own", True), ("Options of every verb", False)):
        lines += ["", f"## {title}", "", "| method | on the command line | what |", "|---|---|---|"]
        for name, cls in registry().items():
            if cls.verb == verb:
                brief = prose.cell(" ".join(texts(cls)[0].split()))
                lines.append(f"| [{cls.__name__}](methods/{name}.md) | `{called(cls)}` | {brief} |")
    return "\n".join([*lines, "", toctree(sorted(registry())), ""])


def toctree(names: list[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", "", *names, "```"])


def called(cls: type[Method]) -> str:
    """How the command line calls it."""
    return f"sfumato {cls.id}" if cls.verb else flag(cls.id)


def flag(name: str) -> str:
    return f"--{name}".replace("_", "-")


def texts(cls: type[Method]) -> tuple[str, str]:
    """The first paragraph of its module's docstring; the others, and those of its own."""
    told = [inspect.getdoc(sys.modules[cls.__module__]), inspect.getdoc(cls)]
    brief, _, rest = "\n\n".join(filter(None, told)).partition("\n\n")
    return brief, rest


def papers(cls: type[Method]) -> list[str]:
    """Numbers of the papers that its texts name, the first the method's own."""
    return list(dict.fromkeys(prose.ARXIV.findall(" ".join(texts(cls)))))


def examples(cls: type[Method]) -> list[str]:
    """Names of the example scripts that use it, the one of its own name first."""
    named = re.compile(rf"\bsf\.{cls.__name__}\b")
    scripts = [
        script.stem
        for script in sorted(EXAMPLES.glob("*.py"))
        if (DOCS / "gallery" / f"{script.stem}.webp").is_file()
        and named.search(script.read_text(encoding="utf-8"))
    ]
    return sorted(scripts, key=lambda name: (not name.startswith(cls.id), name))


def commands(cls: type[Method]) -> list[str]:
    """Command lines that call it."""
    if cls.verb:
        return [f"sfumato {cls.id} {words}" for words in cls.examples or ("",)]
    values = shown(cls)
    main = main_field(cls)
    each = values[main] if isinstance(values[main], tuple) else (values[main],)
    words = [f"{flag(cls.id)} {typed(value)}" for value in each]
    words += [f"--with {cls.id}.{n}={typed(v)}" for n, v in values.items() if n != main]
    return [f'sfumato generate "red apple, 3d render" {" ".join(words)}']


def typed(value: Any) -> str:
    text = written(value)
    return json.dumps(text) if re.search(r"[^\w./,-]", text) else text


def written(value: Any) -> str:
    """A value as one would type it, numbers without idle digits."""
    if isinstance(value, tuple):
        return " ".join(map(written, value))
    return f"{value:.12g}" if isinstance(value, float) else str(as_typed(value))


def in_python(cls: type[Method]) -> str:
    """A line of Python that composes it."""
    fields = described(cls)
    values = [
        repr(value) if fields[name].is_required() else f"{name}={value!r}"
        for name, value in shown(cls).items()
    ]
    call = f"sf.{cls.__name__}({', '.join(values)})".replace("'", '"')
    return f'process = model.process("red apple, 3d render") | {call}'


def shown(cls: type[Method]) -> dict[str, Any]:
    """Values of the fields that an example shows: what it needs, and what matters."""
    given, main = SAMPLES.get(cls.id, {}), main_field(cls)
    wanted = [] if cls.id in NO_MAIN else [main]
    return {
        name: given.get(name, sample(cls, name))
        for name, info in described(cls).items()
        if info.is_required() or name in wanted or name in given
    }


def sample(cls: type[Method], name: str) -> Any:
    """A value of a field, by its kind."""
    info = described(cls)[name]
    kind = plain(info.annotation)
    if not info.is_required() and info.default not in (None, ()):
        return info.default
    if kind is ImageInput:
        return "photo.png"
    if kind in (int, float):
        low, high = limit(info, "ge", "gt"), limit(info, "le", "lt")
        return kind((low + high) / 2) if low is not None and high is not None else kind(1)
    return "weights.safetensors" if '"weights"' in json.dumps(of_schema(cls, name)) else "red apple"


def of_schema(cls: type[Method], name: str) -> Any:
    return schema(cls)["properties"][name]


def table(cls: type[Method]) -> Iterator[str]:
    """Its fields: option, values, default, text."""
    yield "| field | option | values | default | what |"
    yield "|---|---|---|---|---|"
    flags = {}
    if cls.verb:
        for name, parameter in zip(described(cls), method_parameters(cls), strict=True):
            option = get_args(parameter.annotation)[1]
            flags[name] = option.metavar if is_argument(parameter) else option.default
    else:
        flags[main_field(cls)] = flag(cls.id)
    for name, info in described(cls).items():
        default = "required" if info.is_required() else worded(info.default)
        needs = next((str(m) for m in info.metadata if isinstance(m, Needs)), "")
        text = prose.cell(f"{info.description}; needs {needs}" if needs else info.description or "")
        option = flags.get(name, f"--with {cls.id}.{name}=")
        yield f"| `{name}` | `{option}` | {values_of(cls, name)} | {default} | {text} |"


def is_argument(parameter: Any) -> bool:
    return bool(parameter.kind is parameter.POSITIONAL_OR_KEYWORD)


def worded(default: Any) -> str:
    """A default in a cell; nothing where it is none."""
    if default is None or default in ("", ()):
        return ""
    return f"`{written(default)}`"


def values_of(cls: type[Method], name: str) -> str:
    """What a field takes, with its range and unit."""
    info = described(cls)[name]
    kind = plain(info.annotation)
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    unit = f" ({extra['unit']})" if extra.get("unit") else ""
    if repeated(kind):
        return f"any number of: {worded_kind(cls, name, get_args(kind)[0])}"
    if get_origin(kind) is tuple:
        return f"{len(get_args(kind))} numbers{unit}"
    if kind in (int, float):
        return f"{bounds(info, 'a whole number' if kind is int else 'a number')}{unit}"
    return worded_kind(cls, name, kind)


def bounds(info: Any, kind: str) -> str:
    """A number's range in words."""
    least, above, most = (limit(info, name) for name in ("ge", "gt", "le"))
    if least is not None and most is not None:
        return f"{written(least)} to {written(most)}"
    if above is not None:
        return f"above {written(above)}" + (
            f", at most {written(most)}" if most is not None else ""
        )
    if least is not None or most is not None:
        return f"at least {written(least)}" if most is None else f"at most {written(most)}"
    return kind


def worded_kind(cls: type[Method], name: str, kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if kind is ImageInput:
        return "a picture"
    if kind is bool:
        return "yes or no"
    formats = json.dumps(of_schema(cls, name))
    if '"denoiser"' in formats:
        return "a model or an adapter"
    return "a file, folder or name" if '"weights"' in formats else "text"


def presets(cls: type[Method]) -> Iterator[str]:
    """Its presets and what they set."""
    yield "| preset | sets |"
    yield "|---|---|"
    for name, values in cls.presets.items():
        given = ", ".join(f"`{field}` {written(value)}" for field, value in values.items())
        yield f"| `{name}` | {given} |"


def facts(cls: type[Method]) -> Iterator[str]:
    """What a process makes of it."""
    if cls.verb:
        yield f"`sfumato {cls.id} --help-all` has the table too; a recipe calls it `{cls.id}`."
    else:
        yield (
            f"An option of every verb: `{flag(cls.id)}` sets `{main_field(cls)}`, and "
            f"`--with {cls.id}.FIELD=VALUE` any field."
        )
    if cls.slot:
        rivals = [o.__name__ for o in registry().values() if o.slot == cls.slot and o is not cls]
        beside = f", so without {', '.join(rivals)}" if rivals else ""
        what = "of it" if cls.slot == cls.id else cls.slot
        yield f"At most one {what} in a process{beside}."
    else:
        yield "Several of it may stand in one process."
    acts = "on all stages" if cls.stages == "all" else "on the base alone"
    yield f"Of a cascade it acts {acts}."
    if cls.solver is not None:
        solver = cls.solver if isinstance(cls.solver, str) else json.dumps(cls.solver)
        yield f"Where you choose no solver, it brings `{solver}`."
    for other in cls.defaults:
        value = written(getattr(other, main_field(type(other))))
        yield f"Where you say nothing else, it brings `{other.id}` at {value}."
    if cls.needs:
        changed = " and ".join(f"`{part}`" for part in sorted(cls.needs))
        yield f"It changes {changed} apart; solvers that do not read that are refused."


def more(cls: type[Method], scripts: list[str]) -> Iterator[str]:
    """Papers, guides, examples."""
    for paper in papers(cls):
        yield f"[arXiv {paper}](https://arxiv.org/abs/{paper})"
    own = f"{cls.id.replace('_', '-')}.md"
    guides = [*([own] if (DOCS / own).is_file() else []), *GUIDES.get(cls.id, [])]
    for guide in guides:
        yield f"[{title_of(guide)}]({guide})"
    for script in scripts:
        title = caption(script).partition(":")[0]
        yield f"Example: [{title}](../examples/{script}.py)"
    yield "[What goes together](compositions.md)"


def title_of(guide: str) -> str:
    """The heading that a link leads to."""
    name, _, section = guide.partition("#")
    heads = re.findall(r"(?m)^#+ (.+)$", (DOCS / name).read_text(encoding="utf-8"))
    return str(next(head for head in heads if not section or slug(head) == section))


def slug(head: str) -> str:
    return re.sub(r"[^\w -]", "", head).lower().replace(" ", "-")
