"""The configuration as a JSON Schema, for editors that complete and check YAML while it is written."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Mapping
from typing import Any

from medidistill.config import RunConfig
from medidistill.jsontypes import JsonObject  # JSON Schema

__all__ = ["config_schema", "config_template"]

_KINDS = {"int": "integer", "float": "number", "bool": "boolean", "str": "string"}


def config_schema(kind: Any = RunConfig) -> JsonObject:
    """Return the JSON Schema of a configuration dataclass: types, ranges, choices, help, defaults.

    It is of draft 7, which the language servers of editors know. What only several fields together decide (enough
    expert epochs for the segments, say) is beyond a schema; `medidistill config check` knows it.
    """
    schema = _section(kind)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "medidistill run",
        **schema,
    }


def _section(kind: Any) -> JsonObject:
    hints = typing.get_type_hints(kind)
    properties = {item.name: _field(item, hints[item.name]) for item in dataclasses.fields(kind)}
    text = " ".join((kind.__doc__ or "").split())
    # a section that is named but left empty is all defaults
    return {"description": text, "type": ["object", "null"], "additionalProperties": False, "properties": properties}


def _field(item: dataclasses.Field[Any], hint: Any) -> JsonObject:
    schema: JsonObject = {"description": item.metadata.get("help", "")}
    if dataclasses.is_dataclass(hint):
        return {**_section(hint), **schema}
    if item.default is not dataclasses.MISSING:
        schema["default"] = list(item.default) if isinstance(item.default, tuple) else item.default
    origin = typing.get_origin(hint)
    if origin is tuple:
        inner = typing.get_args(hint)[0]
        each: JsonObject = _section(inner) if dataclasses.is_dataclass(inner) else {"type": "string"}
        if "each" in item.metadata:
            each["enum"] = list(item.metadata["each"])
        return {**schema, "type": "array", "items": each}
    if origin is not None:  # a mapping from names to sections
        return {**schema, "type": "object", "additionalProperties": {"type": "object"}}
    schema["type"] = _KINDS[hint.__name__]
    if "options" in item.metadata:
        schema["enum"] = list(item.metadata["options"])
    for key, word in (("low", "minimum"), ("high", "maximum")):
        if math.isfinite(item.metadata.get(key, math.inf)):
            schema[word] = item.metadata[key]
    return schema


def config_template(config: RunConfig, schema: str = "") -> str:
    """Return `config` as YAML with the help of each field beside it, to start from.

    Args:
        config: the values.
        schema: file or address of the JSON Schema that an editor shall use.
    """
    lines = [f"# yaml-language-server: $schema={schema}"] if schema else []
    lines.append(
        "# Every setting with its value; delete what you leave as it is. Checked by `medidistill config check FILE`."
    )
    return "\n".join([*lines, *_template(config, 0)]) + "\n"


def _template(config: Any, depth: int) -> list[str]:
    indent, lines = "  " * depth, []
    for item in dataclasses.fields(config):
        value, text = getattr(config, item.name), item.metadata.get("help", "")
        if dataclasses.is_dataclass(value):
            lines += [f"{indent}{item.name}:  # {text}", *_template(value, depth + 1)]
        else:
            lines.append(f"{indent}{item.name}: {_scalar(value)}  # {text}{_range(item)}")
    return lines


def _range(item: dataclasses.Field[Any]) -> str:
    low, high = item.metadata.get("low", -math.inf), item.metadata.get("high", math.inf)
    if math.isfinite(low) or math.isfinite(high):
        return f" [{low:g} to {high:g}]" if math.isfinite(high) else f" [{low:g} or more]"
    options = item.metadata.get("options") or item.metadata.get("each")
    return f" [{', '.join(options)}]" if options else ""


def _scalar(value: Any) -> str:
    # JSON on one line is YAML too
    def plain(one: Any) -> Any:
        return dict(one) if isinstance(one, Mapping) else dataclasses.asdict(one)

    return json.dumps(value, ensure_ascii=False, default=plain)
