"""What a configuration field may hold, said in its annotation, and the base class that checks it.

A field reads `ipc: Annotated[int, Range(1, 100_000), Help("stored images per class")] = 5`. The same annotations are
checked here when a configuration is made in Python, which needs nothing but the standard library, and read by
pydantic where configurations are files (`medidistill.pipeline.config_io`), which also writes their JSON Schema.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from medidistill.errors import ConfigError, did_you_mean
from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject  # a configuration of any kind

__all__ = [
    "ADDED_LATER",
    "NOT_DIGESTED",
    "Formerly",
    "Help",
    "OneOf",
    "Range",
    "Rule",
    "Section",
    "Validated",
    "as_dict",
    "digest",
    "digested",
    "present_names",
    "rules",
    "with_settings",
    "without_later_defaults",
]


@dataclass(frozen=True)
class Help:
    """What a field means, for `--help`, templates and editors."""

    text: str

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> JsonObject:
        """Return the JSON Schema of the field with its description."""
        return {**handler(schema), "description": self.text}


@dataclass(frozen=True)
class Section(Help):
    """The same for a field that holds keys of its own; a file may name it and leave it empty."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> JsonObject:
        """Return the JSON Schema of the section or null."""
        return {"anyOf": [handler(schema), {"type": "null"}], "description": self.text}


@dataclass(frozen=True)
class Range:
    """A number within [low, high], finite."""

    low: float = -math.inf
    high: float = math.inf

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> JsonObject:
        """Return the schema of the number with its bounds."""
        bounds = {"ge": self.low, "le": self.high}
        return {**handler(source), **{key: bound for key, bound in bounds.items() if math.isfinite(bound)}}

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f">= {self.low:g}"
        return f"<= {self.high:g}" if math.isinf(self.low) else f"in [{self.low:g}, {self.high:g}]"


@dataclass(frozen=True, init=False)
class OneOf:
    """One of some words that are known at run time alone (`Literal` says the others), or one with a prefix."""

    options: tuple[str, ...]
    prefix: str = ""

    def __init__(self, *options: str, prefix: str = "") -> None:
        """Take the words."""
        object.__setattr__(self, "options", options)
        object.__setattr__(self, "prefix", prefix)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> JsonObject:
        """Return the schema of the words."""
        words: JsonObject = {"type": "literal", "expected": list(self.options)}
        if not self.prefix:
            return words
        return {"type": "union", "choices": [words, {"type": "str", "pattern": f"^{self.prefix}"}]}


@dataclass(frozen=True)
class Formerly:
    """The field's name before it was renamed: files that hold it are read, and digests still use it."""

    name: str


@dataclass(frozen=True)
class _NotDigested:
    """What `digest` leaves out: what the field does shows in the data, which have a digest of their own."""


NOT_DIGESTED = _NotDigested()


@dataclass(frozen=True)
class _AddedLater:
    """What `digest` counts only where it differs from its default, so that what was finished before it stays so."""


ADDED_LATER = _AddedLater()


@dataclass(frozen=True)
class Rule:
    """What one field may hold.

    Args:
        kind: type of the value, of each one where `listed`.
        listed: whether the field holds a tuple of them.
        range: of a number.
        options: the words to choose from; none: any.
        prefix: of further words that may be chosen.
        help: what the field means.
        digested: whether `digest` counts it.
        added_later: whether `digest` counts it only where it differs from its default.
        formerly: its former name, empty where it has none.
    """

    kind: Any
    listed: bool = False
    range: Range | None = None
    options: tuple[Any, ...] = ()
    prefix: str = ""
    help: str = ""
    digested: bool = True
    added_later: bool = False
    formerly: str = ""

    @classmethod
    def of(cls, hint: Any) -> Rule:
        """Return the rule that an annotation states."""
        kind, extra = _unwrapped(hint)
        listed = typing.get_origin(kind) is tuple
        if listed:
            kind, inner = _unwrapped(typing.get_args(kind)[0])
            extra = (*extra, *inner)
        options: tuple[Any, ...] = ()
        if typing.get_origin(kind) is Mapping:
            kind = Mapping
        elif typing.get_origin(kind) is Literal:
            options = typing.get_args(kind)
            kind = type(options[0])
        words = next((one for one in extra if isinstance(one, OneOf)), OneOf())
        return cls(
            kind,
            listed,
            next((one for one in extra if isinstance(one, Range)), None),
            options or words.options,
            words.prefix,
            next((one.text for one in extra if isinstance(one, Help)), ""),
            NOT_DIGESTED not in extra,
            ADDED_LATER in extra,
            next((one.name for one in extra if isinstance(one, Formerly)), ""),
        )

    @property
    def is_section(self) -> bool:
        """Whether the field holds keys of its own."""
        return dataclasses.is_dataclass(self.kind) and not self.listed

    def problem(self, value: Any) -> str:
        """Return what is wrong with a value and what is allowed instead; empty where it is good."""
        if self.kind is Mapping:
            sections = isinstance(value, Mapping) and all(isinstance(one, Mapping) for one in value.values())
            return "" if sections else "must be a section for each name, as {bptt: {lr_images: 0.02}}"
        if not self.listed:
            return self._problem(value)
        if not isinstance(value, tuple | list) or (self.kind is str and not all(isinstance(one, str) for one in value)):
            return "must be a list of names, for example [a, b]; quote numbers"
        return next(filter(None, map(self._problem, value)), "")

    def _problem(self, value: Any) -> str:
        if self.options:
            named = bool(self.prefix) and isinstance(value, str) and value.startswith(self.prefix)
            if named or (type(value) is self.kind and value in self.options):
                return ""
            words = [str(option) for option in self.options]
            return f"must be one of {', '.join(words)}{did_you_mean(str(value), words)}"
        if self.kind in (int, float):
            kinds = int if self.kind is int else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
                return f"must be {'a whole' if self.kind is int else 'a finite'} number"
            if self.range and not self.range.low <= value <= self.range.high:
                return f"must be {self.range}"
        elif self.kind is bool and not isinstance(value, bool):
            return "must be true or false"
        elif self.kind is str and not isinstance(value, str):
            return "must be text"
        return ""


def _unwrapped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    if typing.get_origin(hint) is Annotated:
        kind, *extra = typing.get_args(hint)
        return kind, tuple(extra)
    return hint, ()


def rules(kind: Any) -> Mapping[str, Rule]:
    """Return the rule of every field of a configuration class, in order."""
    return _rules(kind)


@functools.cache
def _rules(kind: Any) -> Mapping[str, Rule]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {item.name: Rule.of(hints[item.name]) for item in fields(kind)}


def present_names(kind: Any) -> Mapping[str, str]:
    """Return present and former name -> present name, of every field of a configuration class."""
    known = rules(kind)
    return {name: name for name in known} | {rule.formerly: name for name, rule in known.items() if rule.formerly}


class Validated:
    """Checks each field when an instance is made. Raises `ConfigError` with name, value and what is allowed."""

    # how pydantic reads the subclasses: nothing is converted, and an unknown key is an error
    __pydantic_config__: typing.ClassVar[JsonObject] = {"strict": True, "extra": "forbid", "allow_inf_nan": False}

    def __post_init__(self) -> None:
        for name, rule in rules(type(self)).items():
            value = getattr(self, name)
            if problem := rule.problem(value):
                raise ConfigError(f"{type(self).__name__}.{name}={value!r}: {problem}")
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
            elif rule.kind is float:
                object.__setattr__(self, name, float(value))


def as_dict(config: Any) -> JsonObject:
    """Return a configuration as plain JSON types; an object with a `plain` method provides them itself."""
    described = config.plain() if hasattr(config, "plain") else dataclasses.asdict(config)
    plain: JsonObject = json.loads(json.dumps(described))
    return plain


def with_settings(config: Any, settings: ReadOnlyJsonObject) -> Any:
    """Return `config` with some settings changed; a mapping changes a section. Raises `ConfigError`."""
    known = present_names(type(config))
    changed = {}
    for key, value in settings.items():
        if key not in known:
            raise ConfigError(f"unknown key {key!r}{did_you_mean(key, known)}")
        name = known[key]
        old = getattr(config, name)
        if dataclasses.is_dataclass(old) and not isinstance(value, Mapping):
            raise ConfigError(f"{name}={value!r}: must be a section of keys")
        changed[name] = with_settings(old, value) if dataclasses.is_dataclass(old) else value
    return dataclasses.replace(config, **changed)


def _is_later_default(config: Any, name: str, rule: Rule) -> bool:
    return rule.added_later and getattr(config, name) == getattr(type(config), name)


def without_later_defaults(config: Any) -> JsonObject:
    """Return `as_dict` of a configuration without settings that were added later and have their default."""
    plain = as_dict(config)
    for name, rule in rules(type(config)).items():
        if _is_later_default(config, name, rule):
            del plain[name]
        elif rule.is_section:
            plain[name] = without_later_defaults(getattr(config, name))
    return plain


def digested(config: Any) -> JsonObject:
    """Return a configuration as `digest` counts it: under the names that its settings first had."""
    plain = as_dict(config)
    if hasattr(config, "plain") or not isinstance(config, Validated):  # what describes itself says all there is
        return plain
    found: JsonObject = {}
    for name, rule in rules(type(config)).items():
        inner = getattr(config, name)
        if rule.digested and not _is_later_default(config, name, rule):
            found[rule.formerly or name] = digested(inner) if rule.is_section else plain[name]
    return found


def digest(*parts: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of configurations or JSON values."""
    plain = [digested(part) if dataclasses.is_dataclass(part) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
