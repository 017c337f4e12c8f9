"""The configuration as a JSON Schema, for editors that complete and check YAML while it is written."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from medidistill.config import RunConfig
from medidistill.config.fields import Rule, rules
from medidistill.jsontypes import JsonObject  # JSON Schema

__all__ = ["config_schema", "config_template"]


class _Untitled(GenerateJsonSchema):
    """Without a title that repeats the name of each field."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def config_schema(kind: Any = RunConfig) -> JsonObject:
    """Return the JSON Schema of a configuration dataclass: types, ranges, choices, help, defaults.

    It uses what draft 7 knows, as the language servers of editors do. What only several fields together decide (enough
    expert epochs for the segments, say) is beyond a schema; `medidistill config check` knows it.
    """
    schema = TypeAdapter(kind).json_schema(schema_generator=_Untitled)
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema, "title": "medidistill run"}


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
    for name, rule in rules(type(config)).items():
        value = getattr(config, name)
        if rule.is_section:
            lines += [f"{indent}{name}:  # {rule.help}", *_template(value, depth + 1)]
        else:
            lines.append(f"{indent}{name}: {_scalar(value)}  # {rule.help}{_allowed(rule)}")
    return lines


def _allowed(rule: Rule) -> str:
    if rule.range is not None:
        low, high = rule.range.low, rule.range.high
        return f" [{low:g} to {high:g}]" if math.isfinite(high) else f" [{low:g} or more]"
    return f" [{', '.join(map(str, rule.options))}]" if rule.options else ""


def _scalar(value: Any) -> str:
    # JSON on one line is YAML too
    def plain(one: Any) -> Any:
        return dict(one) if isinstance(one, Mapping) else dataclasses.asdict(one)

    return json.dumps(value, ensure_ascii=False, default=plain)
