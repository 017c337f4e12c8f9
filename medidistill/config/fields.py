"""Metadata of configuration fields, and the base class that validates them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

from medidistill.errors import ConfigError, did_you_mean
from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject  # a configuration of any kind

__all__ = [
    "Validated",
    "as_dict",
    "choice",
    "digest",
    "file_name",
    "flag",
    "names",
    "number",
    "part",
    "text",
    "with_settings",
]


def number(default: float, text: str, low: float = -math.inf, high: float = math.inf) -> Any:
    """Return a field for a number within [low, high]; `int` or `float` by its annotation."""
    return field(default=default, metadata={"help": text, "low": low, "high": high})


def flag(default: bool, text: str) -> Any:
    """Return a field for true or false."""
    return field(default=default, metadata={"help": text})


def choice(default: str, text: str, *options: str, prefix: str = "") -> Any:
    """Return a field for one of `options`, or for any name that begins with `prefix`."""
    return field(default=default, metadata={"help": text, "options": options, "prefix": prefix})


def text(default: str, text: str) -> Any:
    """Return a field for free text."""
    return field(default=default, metadata={"help": text})


def file_name(default: str, text: str) -> Any:
    """Return a field for a file that `digest` leaves out: what it does shows in the data, which have a digest."""
    return field(default=default, metadata={"help": text, "digested": False})


def names(default: tuple[str, ...], text: str, *options: str, prefix: str = "") -> Any:
    """Return a field for a list of names, each one of `options`, where there are any, or beginning with `prefix`."""
    each: JsonObject = {"each": options, "prefix": prefix} if options else {}
    return field(default=default, metadata={"help": text, **each})


def part(factory: Any, text: str) -> Any:
    """Return a field for a section of its own."""
    return field(default_factory=factory, metadata={"help": text})


def parts(text: str) -> Any:
    """Return a field for a list of sections of one kind, empty unless given."""
    return field(default=(), metadata={"help": text})


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return f">= {low:g}"
    return f"<= {high:g}" if math.isinf(low) else f"in [{low:g}, {high:g}]"


class Validated:
    """Checks each field's type, range and choices as its metadata state them."""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            where = f"{type(self).__name__}.{item.name}={value!r}"
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, item.name, value)
            if isinstance(value, bool) and {"on", "off"} <= set(item.metadata.get("options", ())):
                value = "on" if value else "off"  # YAML 1.1 reads the bare words so
                object.__setattr__(self, item.name, value)
            if "low" in item.metadata:
                self._check_number(item, value, where)
            elif item.type == "bool" and not isinstance(value, bool):
                raise ConfigError(f"{where}: must be true or false")
            elif item.type == "str" and not isinstance(value, str):
                raise ConfigError(f"{where}: must be text")
            for one in value if "each" in item.metadata else (value,):
                options = item.metadata.get("each") or item.metadata.get("options")
                prefix = item.metadata.get("prefix", "")
                named = bool(prefix) and isinstance(one, str) and one.startswith(prefix)
                if options and one not in options and not named:
                    guess = did_you_mean(str(one), options)
                    raise ConfigError(f"{where}: must be one of {', '.join(options)}{guess}")

    def _check_number(self, item: dataclasses.Field[Any], value: Any, where: str) -> None:
        low, high = item.metadata["low"], item.metadata["high"]
        kinds = (int,) if item.type == "int" else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
            raise ConfigError(f"{where}: must be {'a whole' if item.type == 'int' else 'a finite'} number")
        if not low <= value <= high:
            raise ConfigError(f"{where}: must be {_range(low, high)}")
        if item.type == "float":
            object.__setattr__(self, item.name, float(value))


def as_dict(config: Any) -> JsonObject:
    """Return a configuration as plain JSON types; an object with a `plain` method provides them itself."""
    described = config.plain() if hasattr(config, "plain") else dataclasses.asdict(config)
    plain: JsonObject = json.loads(json.dumps(described))
    return plain


def with_settings(config: Any, settings: ReadOnlyJsonObject) -> Any:
    """Return `config` with some settings changed; a mapping changes a section. Raises `ConfigError`."""
    known = {item.name for item in fields(config)}
    changed = {}
    for name, value in settings.items():
        if name not in known:
            raise ConfigError(f"unknown key {name!r}{did_you_mean(name, known)}")
        old = getattr(config, name)
        if dataclasses.is_dataclass(old) and not isinstance(value, Mapping):
            raise ConfigError(f"{name}={value!r}: must be a section of keys")
        changed[name] = with_settings(old, value) if dataclasses.is_dataclass(old) else value
    return dataclasses.replace(config, **changed)


def _digested(config: Any) -> JsonObject:
    plain = as_dict(config)
    for item in fields(config) if not hasattr(config, "plain") else ():  # what describes itself says all there is
        if not item.metadata.get("digested", True):
            plain.pop(item.name, None)
        elif dataclasses.is_dataclass(inner := getattr(config, item.name)) and item.name in plain:
            plain[item.name] = _digested(inner)
    return plain


def digest(*parts: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of configurations or JSON values."""
    plain = [_digested(part) if dataclasses.is_dataclass(part) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
