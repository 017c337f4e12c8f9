"""YAML to `RunConfig` and back. Every complaint names the file, the dotted key and the remedy."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from medidistill.config import RunConfig, as_dict
from medidistill.errors import ConfigError, did_you_mean
from medidistill.jsontypes import JsonObject  # YAML that a user wrote, before it is checked
from medidistill.pipeline.resources import preset_files

__all__ = [
    "HEADER",
    "Setting",
    "differences",
    "dump_config",
    "environment_settings",
    "load_config",
    "load_section",
    "read_yaml",
]

HEADER = "# medidistill run: the resolved configuration of this folder\n"


_ENVIRONMENT = "MEDIDISTILL_SET__"


class Setting(str):
    """One `section.key=value` that knows where it was written, for messages.

    Args:
        text: the setting.
        origin: the option or environment variable that it came from.
    """

    __slots__ = ("origin",)
    origin: str

    def __new__(cls, text: str, origin: str = "--set") -> Setting:
        """Return the text with its origin."""
        made = super().__new__(cls, text)
        made.origin = origin
        return made


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without its two traps: `1e-3` is a number here, and a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key_node.value!r} is given twice", problem_mark=node.end_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _parse(text: str, origin: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (derives from SafeLoader)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or str(error)
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{origin}{line}: not valid YAML ({' '.join(problem.split())})") from error


def _read(path: Path) -> Any:
    path = Path(path)
    if not path.is_file():
        presets = preset_files()
        if str(path) not in presets:
            guess = did_you_mean(str(path), presets)
            raise ConfigError(f"{path}: no such configuration file; ready-made: {', '.join(presets)}{guess}")
        path = presets[str(path)]
    return read_yaml(path)


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds, by a safe loader. Raises `ConfigError`."""
    try:
        return _parse(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text; must be a YAML file") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error


class _Builder:
    """Builds nested dataclasses from a mapping; knows which keys were set outside of the file, and by what."""

    def __init__(self, origin: str, from_outside: Mapping[str, str]) -> None:
        self.origin = origin
        self.from_outside = from_outside

    def _error(self, key: str, message: str) -> ConfigError:
        below = (origin for one, origin in self.from_outside.items() if one == key or one.startswith(f"{key}."))
        return ConfigError(f"{next(below, self.origin) if key else self.origin}: {message}")

    def build(self, kind: Any, raw: Any, prefix: str = "") -> Any:
        section = prefix.rstrip(".")
        raw = {} if raw is None else raw
        if not isinstance(raw, Mapping):
            what = f"{section}={raw!r}" if section else "the file"
            raise self._error(section, f"{what}: must be a section of keys ({', '.join(_names(kind)[:4])}, ...)")
        types = typing.get_type_hints(kind)
        values: JsonObject = {}
        for key, value in raw.items():
            name = f"{prefix}{key}"
            if key not in types:
                guess = did_you_mean(str(key), _names(kind)) or f"; known here: {', '.join(_names(kind))}"
                raise self._error(name, f"unknown key {name!r}{guess}")
            if dataclasses.is_dataclass(types[key]):
                values[key] = self.build(types[key], value, f"{name}.")
            elif typing.get_origin(types[key]) is tuple:
                (one, *_) = typing.get_args(types[key])
                listed = self._list_of_sections if dataclasses.is_dataclass(one) else self._list_of_text
                values[key] = listed(value, name, one)
            elif typing.get_origin(types[key]) is Mapping:
                values[key] = self._sections_by_name(value, name)
            else:
                values[key] = value
        try:
            return kind(**values)
        except ConfigError as error:
            message = str(error).replace(f"{kind.__name__}.", prefix)
            raise self._error(re.split(r"[=:]", message)[0], message) from error

    def _sections_by_name(self, value: Any, name: str) -> JsonObject:
        value = {} if value is None else value
        if not isinstance(value, Mapping) or not all(isinstance(one, Mapping) for one in value.values()):
            raise self._error(name, f"{name}={value!r}: must be a section for each name, as {{bptt: {{ipc: 5}}}}")
        return dict(value)

    def _list_of_sections(self, value: Any, name: str, kind: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise self._error(name, f"{name}={value!r}: must be a list of sections ({', '.join(_names(kind))})")
        return tuple(self.build(kind, one, f"{name}[{number}].") for number, one in enumerate(value))

    def _list_of_text(self, value: Any, name: str, _: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self._error(name, f"{name}={value!r}: must be a list of names, for example [a, b]; quote yes and no")
        return tuple(value)


def _names(kind: Any) -> list[str]:
    return [item.name for item in dataclasses.fields(kind)]


def _override(raw: JsonObject, option: str) -> str:
    """Put one `a.b=c` into `raw`; returns the dotted key."""
    key, sign, text = option.partition("=")
    origin = _origin(option)
    if not sign or not re.fullmatch(r"\w+(\.\w+)*", key):
        raise ConfigError(f"{origin} {option}: must look like distill.ipc=10")
    *sections, last = key.split(".")
    here = raw
    for section in sections:
        inner = here.get(section)
        if not isinstance(inner, dict):
            inner = here[section] = {}
        here = inner
    here[last] = _parse(text, f"{origin} {key}" if origin == "--set" else origin)
    return key


def _origin(option: str) -> str:
    return option.origin if isinstance(option, Setting) else "--set"


def environment_settings(environment: Mapping[str, str]) -> list[Setting]:
    """Return the settings of the environment as `load_config` takes them.

    `MEDIDISTILL_SET__distill__ipc=10` is `distill.ipc=10`: two underscores stand for each dot.

    Raises:
        ConfigError: a variable that is meant as one of these and is spelt otherwise.
    """
    found = []
    for name in sorted(environment):
        if name.startswith(_ENVIRONMENT):
            key = name.removeprefix(_ENVIRONMENT).replace("__", ".")
            if not re.fullmatch(r"\w+(\.\w+)*", key) or key.strip("_") != key:
                raise ConfigError(f"{name}: names no setting; write for example {_ENVIRONMENT}distill__ipc=10")
            found.append(Setting(f"{key}={environment[name]}", name))
        elif re.match(r"MEDI_?DISTILL_*SET(_|$)", name, re.IGNORECASE):
            raise ConfigError(
                f"{name}: is not read; write {_spelled(name)}, with two underscores after SET and for each dot"
            )
    return found


def _spelled(name: str) -> str:
    """Return how a variable would be spelt that is nearest to what was meant."""
    meant = re.sub(r"^MEDI_?DISTILL_*SET_*", "", name, flags=re.IGNORECASE)
    known = {key.replace(".", "__"): key for key in _keys(RunConfig)}
    plain = {re.sub("_+", "_", spelled).lower(): spelled for spelled in known}
    nearest = plain.get(re.sub("_+", "_", meant).lower())
    if nearest is None:
        found = difflib.get_close_matches(re.sub("_+", "_", meant).lower(), plain, n=1, cutoff=0.5)
        nearest = plain[found[0]] if found else meant or "distill__ipc"
    return f"{_ENVIRONMENT}{nearest}"


def _keys(kind: Any, prefix: str = "") -> Iterable[str]:
    """Yield the dotted key of every setting."""
    for key, inner in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(inner):
            yield from _keys(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def load_config(path: Path | str | None = None, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a configuration.

    Args:
        path: a YAML file, or the name of a ready-made one (`demo`, `quick`, `covid-cxr`); None: all defaults.
        overrides: `section.key=value`, each parsed as YAML, stronger than the file; messages name the origin of a
            `Setting`.

    Raises:
        ConfigError: unreadable or empty file, invalid YAML, unknown key (the nearest is named), wrong type or range.
    """
    raw = {} if path is None else _not_empty(_read(Path(path)), str(path))
    from_outside: dict[str, str] = {}
    if isinstance(raw, dict):
        from_outside = {_override(raw, option): _origin(option) for option in overrides}
    config = _Builder(str(path) if path is not None else "defaults", from_outside).build(RunConfig, raw)
    assert isinstance(config, RunConfig)
    return config


def _not_empty(raw: Any, path: str) -> Any:
    if raw is None:
        raise ConfigError(
            f"{path}: is empty, or holds comments alone; write settings into it (`medidistill config init` prints all "
            "of them), or leave it out to use the defaults"
        )
    return raw


def load_section(path: str, kind: type, ready: Iterable[str]) -> Any:
    """Read a YAML file of one section's keys.

    Args:
        path: the file.
        kind: dataclass of the section.
        ready: names that would have worked instead, for the message.

    Raises:
        ConfigError: no such file, invalid YAML, unknown key, wrong type or range.
    """
    file = Path(path)
    if not file.is_file():
        names = list(ready)
        raise ConfigError(f"{path}: no such file; ready-made: {', '.join(names)}{did_you_mean(path, names)}")
    try:
        return _Builder(path, {}).build(kind, _not_empty(_parse(file.read_text(encoding="utf-8"), path), path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text ({error})") from error


def dump_config(config: RunConfig) -> str:
    """Return the whole configuration, defaults included, as YAML that `load_config` reads back."""
    return HEADER + yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True, width=100)


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Return one `key: old -> new` for each setting that differs."""

    def walk(a: Any, b: Any, prefix: str) -> list[str]:
        if isinstance(a, dict):
            return [line for key in a for line in walk(a[key], b[key], f"{prefix}.{key}" if prefix else key)]
        return [] if a == b else [f"{prefix}: {a!r} -> {b!r}"]

    return walk(as_dict(old), as_dict(new), "")
