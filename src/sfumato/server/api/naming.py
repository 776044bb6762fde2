"""Names for parts of the document that have none, as generators of clients make some up.

`SolverAnyOf1`, `RecipeSizeType2Type1` and a class that is named and never written are what they
make of a choice within a choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

TEMPLATE = "#/components/schemas/{model}"
RENAMED = {
    "Body_uploadImage": "ImageUpload",
    "When": "CancelWhen",  # `when` is a word of Dart
    "ModelInfo": "ModelView",
}
CHOICES = {
    ("Recipe", "solver"): "Solver",
    ("Recipe", "spacing"): "Spacing",
    ("Recipe", "size"): "Size",
    ("Plan", "calls"): "Calls",
}
"""Properties that take one of several things, and the name of what they take."""
OBJECT = "JsonObject"


def name_parts(schemas: dict[str, Schema]) -> None:
    """Give the parts of all schemas their names, in place."""
    for (owner, key), name in CHOICES.items():
        properties = schemas[owner]["properties"]
        properties[key] = _chosen(schemas, name, properties[key])
    schemas[OBJECT] = {"type": "object", "additionalProperties": True,
                       "description": "An object of any fields."}  # fmt: skip
    for schema in [*schemas.values()]:
        for part in _parts(schema):
            _free(part)
            if part.pop("contentMediaType", None):  # of a file, which generators know as this
                part["format"] = "binary"
    for name, schema in schemas.items():
        schema["title"] = name
        for key, value in schema.get("properties", {}).items():
            if key == "event" and "const" in value:  # that tells which it is
                value.pop("default", None)
                schema["required"] = sorted({key, *schema.get("required", ())})


def _chosen(schemas: dict[str, Schema], name: str, schema: Schema) -> Schema:
    """A reference to the choice, or none, in place of the choice."""
    choices, nullable = [], False
    for choice in schema["anyOf"]:
        if "enum" in choice:
            words = [word for word in choice["enum"] if word is not None]
            nullable |= None in choice["enum"]
            choice = _kept(schemas, f"{name}Name", {"type": "string", "enum": words})
        elif "properties" in choice:
            (constant,) = (v for v in choice["properties"].values() if "const" in v)
            constant["type"] = "string"
            choice = _kept(schemas, f"{_camel(constant['const'])}{name}", choice)
        if choice == {"type": "null"}:
            nullable = True
        else:
            choices.append(choice)
    reference = _kept(schemas, name, {"anyOf": choices})
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**rest, "anyOf": [reference, {"type": "null"}]} if nullable else {**rest, **reference}


def _kept(schemas: dict[str, Schema], name: str, schema: Schema) -> Schema:
    """The reference to a schema that is kept by that name."""
    schemas[name] = schema
    return {"$ref": TEMPLATE.format(model=name)}


def _camel(word: str) -> str:
    return "".join(part.capitalize() for part in word.split("-"))


def _parts(value: Any) -> Iterator[Schema]:
    """Every object within."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, dict | list):
            yield from _parts(part)


def _free(schema: Schema) -> None:
    """Objects of any fields, as the one that is named."""
    for key in ("anyOf", "properties"):
        choices = schema.get(key, ())
        for place in range(len(choices)) if isinstance(choices, list) else [*choices]:
            choice = choices[place]
            if isinstance(choice, dict) and _is_free(choice):
                choices[place] = {"$ref": TEMPLATE.format(model=OBJECT)}
    if isinstance(items := schema.get("items"), dict) and _is_free(items):
        schema["items"] = {"$ref": TEMPLATE.format(model=OBJECT)}


def _is_free(schema: Schema) -> bool:
    if schema.get("type") != "object" or "properties" in schema or "maxProperties" in schema:
        return False
    more = schema.get("additionalProperties")
    return more is True or more == {"$ref": TEMPLATE.format(model="JsonValue")}
