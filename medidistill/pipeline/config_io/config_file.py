"""YAML to `RunConfig` and back. Every complaint names the file, the dotted key and the remedy.

pydantic and ruamel.yaml are imported where they are used: `medidistill status` reads a run without them.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import functools
import io
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medidistill.config import DistillConfig, RunConfig, as_dict
from medidistill.config.fields import Rule, present_names, rules
from medidistill.errors import ConfigError, did_you_mean
from medidistill.jsontypes import JsonObject  # YAML that a user wrote, before it is checked
from medidistill.pipeline.config_io.resources import preset_files

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

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

_LOGGER = logging.getLogger(__name__)
_ANY = Rule(object)

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


def _parse(text: str, origin: str) -> Any:
    """Return what YAML 1.2 text holds; a key that is given twice is an error."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        problem = getattr(error, "problem", None) or str(error)
        if twice := re.match('found duplicate key "(.*?)"', problem):
            problem = f"key {twice[1]!r} is given twice"
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{origin}{line}: not valid YAML ({' '.join(problem.split())})") from error


def _read(path: Path) -> tuple[Any, bool]:
    """Return what a configuration file or a ready-made one holds, and whether a run wrote it."""
    if not path.is_file():
        presets = preset_files()
        if str(path) not in presets:
            guess = did_you_mean(str(path), presets)
            raise ConfigError(f"{path}: no such configuration file; ready-made: {', '.join(presets)}{guess}")
        path = presets[str(path)]
    text = _text(path)
    return _parse(text, str(path)), text.startswith(HEADER)


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds, by a safe loader. Raises `ConfigError`."""
    return _parse(_text(path), str(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text; must be a YAML file") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error


class _Reader:
    """Makes configurations from what was read; knows which keys were set outside of the file, and by what."""

    def __init__(self, origin: str, from_outside: Mapping[str, str]) -> None:
        self.origin = origin
        self.from_outside = from_outside

    def read(self, kind: Any, raw: Any) -> Any:
        """Return a `kind`. Raises `ConfigError` that names the place, the dotted key and the remedy."""
        if not isinstance(raw, Mapping | None):
            raise self._error("", f"the file: {_must_be_section(kind)}")
        from pydantic import ValidationError

        plain = json.dumps(_filled(kind, raw or {}), default=str)  # dates and the like become text
        try:
            return _adapter(kind).validate_json(plain)
        except ValidationError as error:
            raise self._refusal(kind, json.loads(plain), error) from error

    def _refusal(self, kind: Any, raw: Any, error: ValidationError) -> ConfigError:
        """Return the error of the first fault that pydantic found, in the words of the field's rule."""
        found = error.errors(include_url=False)[0]
        key, rule = "", None
        for part in found["loc"]:
            if isinstance(part, int):
                key += f"[{part}]"
            elif part not in rules(kind):
                return self._unknown(kind, f"{key}.{part}".lstrip("."), str(part))
            else:
                key, rule = f"{key}.{part}".lstrip("."), rules(kind)[part]
                kind = rule.kind
            raw = raw[part]
            if rule is not None and not dataclasses.is_dataclass(kind):
                return self._error(key, f"{key}={raw!r}: {rule.problem(raw) or found['msg']}")
        cause = found.get("ctx", {}).get("error")
        if isinstance(cause, ConfigError):  # what several fields together decide
            message = str(cause).replace(f"{kind.__name__}.", f"{key}." if key else "")
            return self._error(re.split(r"[=:]", message)[0], message)
        if rule is not None and rule.listed and not key.endswith("]"):
            return self._error(key, f"{key}={raw!r}: must be a list of sections ({', '.join(rules(kind))})")
        return self._error(key, f"{key}={raw!r}: {_must_be_section(kind)}")

    def _unknown(self, kind: Any, key: str, last: str) -> ConfigError:
        guess = did_you_mean(last, rules(kind)) or f"; known here: {', '.join(rules(kind))}"
        return self._error(key, f"unknown key {key!r}{guess}")

    def _error(self, key: str, message: str) -> ConfigError:
        below = (
            origin
            for one, origin in self.from_outside.items()
            if one == key or one.startswith(f"{key}.") or key.startswith((f"{one}.", f"{one}["))
        )
        return ConfigError(f"{next(below, self.origin) if key else self.origin}: {message}")


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _must_be_section(kind: Any) -> str:
    return f"must be a section of keys ({', '.join(list(rules(kind))[:4])}, ...)"


def _filled(kind: Any, raw: Mapping[Any, Any]) -> JsonObject:
    """Return `raw` with an empty mapping for each section that was named and left empty."""
    found: JsonObject = {}
    for key, value in raw.items():
        rule = rules(kind).get(str(key), _ANY)
        filled = {} if value is None and (rule.is_section or rule.kind is Mapping) else value
        found[str(key)] = _filled(rule.kind, filled) if rule.is_section and isinstance(filled, Mapping) else filled
    return found


def _renamed(kind: Any, raw: Any, origin: str, prefix: str = "", *, log: bool = True) -> Any:
    """Return `raw` under the present names of its settings, and log each that has a former one.

    What a run wrote for itself is renamed without `log`.
    """
    if not isinstance(raw, Mapping):
        return raw
    known, present = rules(kind), present_names(kind)
    found: JsonObject = {}
    for key, value in raw.items():
        name = str(present.get(key, key))
        if name in found or (name != key and name in raw):
            names = " and ".join(prefix + one for one in (known[name].formerly, name))
            raise ConfigError(f"{origin}: {names} are one setting; keep the second alone")
        if name != key and log:
            _LOGGER.warning("%s: %s%s is called %s%s now", origin, prefix, key, prefix, name)
        rule = known.get(name, _ANY)
        deeper = f"{prefix}{name}."
        found[name] = _renamed(rule.kind, value, origin, deeper, log=log) if rule.is_section else value
        if kind is RunConfig and name == "methods" and isinstance(value, Mapping):
            found[name] = {
                method: _renamed(DistillConfig, settings, origin, f"{deeper}{method}.", log=log)
                for method, settings in value.items()
            }
    return found


def _override(raw: JsonObject, option: str) -> str:
    """Put one `a.b=c` into `raw`; returns the dotted key."""
    key, sign, text = option.partition("=")
    origin = _origin(option)
    if not sign or not re.fullmatch(r"\w+(\.\w+)*", key):
        raise ConfigError(f"{origin} {option}: must look like distill.ipc=10")
    *sections, last = key.split(".")
    given: JsonObject = {last: _parse(text, f"{origin} {key}" if origin == "--set" else origin)}
    for section in reversed(sections):
        given = {section: given}
    given, path = _renamed(RunConfig, given, origin), []
    here, inside, kind = raw, given, RunConfig
    for _ in sections:
        ((section, inside),) = inside.items()
        path.append(section)
        kind = rules(kind).get(section, _ANY).kind if dataclasses.is_dataclass(kind) else object
        if not isinstance(here.get(section), dict):
            here[section] = {}
        here = here[section]
    _merge(here, inside, kind, origin)
    return ".".join([*path, *inside])


def _merge(here: JsonObject, given: Mapping[str, Any], kind: Any, origin: str) -> None:
    """Put settings into `here`, the others stay. Raises `ConfigError` where nothing is given for a section."""
    known = rules(kind) if dataclasses.is_dataclass(kind) else {}
    for key, value in given.items():
        rule = known.get(key, _ANY)
        if rule.is_section and value is None:
            example = f"{key}.{next(iter(rules(rule.kind)))}=VALUE"
            raise ConfigError(f"{origin} {key}=: is a section and needs a setting, for example {example}")
        if rule.is_section and isinstance(value, Mapping):
            if not isinstance(here.get(key), dict):
                here[key] = {}
            _merge(here[key], value, rule.kind, origin)
        else:
            here[key] = value


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
    for key, rule in rules(kind).items():
        if rule.is_section:
            yield from _keys(rule.kind, f"{prefix}{key}.")
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
    raw: Any = {}
    if path is not None:
        raw, written_by_run = _read(Path(path))
        raw = _renamed(RunConfig, _not_empty(raw, str(path)), str(path), log=not written_by_run)
    from_outside: dict[str, str] = {}
    place, alone = str(path) if path is not None else "defaults", copy.deepcopy(raw)
    if isinstance(raw, dict):
        from_outside = {_override(raw, option): _origin(option) for option in overrides}
    try:
        config = _Reader(place, from_outside).read(RunConfig, raw)
    except ConfigError as error:
        if not from_outside or not str(error).startswith(f"{place}: ") or not _is_good(alone):
            raise
        # the file alone is good, so that what was set beside it is at fault
        origins = " and ".join(dict.fromkeys(from_outside.values()))
        raise ConfigError(f"{origins}: {str(error).removeprefix(f'{place}: ')}") from error
    assert isinstance(config, RunConfig)
    return config


def _is_good(raw: Any) -> bool:
    try:
        _Reader("", {}).read(RunConfig, raw)
    except ConfigError:
        return False
    return True


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
        raw = _not_empty(_parse(file.read_text(encoding="utf-8"), path), path)
        return _Reader(path, {}).read(kind, _renamed(kind, raw, path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text ({error})") from error


def dump_config(config: RunConfig) -> str:
    """Return the whole configuration, defaults included, as YAML that `load_config` reads back."""
    from ruamel.yaml import YAML

    writer: Any = YAML(typ="safe", pure=True)
    text = io.StringIO()
    writer.default_flow_style, writer.width, writer.sort_base_mapping_type_on_output = False, 1000, False
    writer.dump(as_dict(config), text)
    return HEADER + text.getvalue()


class _Unset:
    def __repr__(self) -> str:
        return "unset"


_UNSET = _Unset()


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Return one `key: old -> new` for each setting that differs."""

    def walk(a: Any, b: Any, prefix: str) -> list[str]:
        if isinstance(a, dict) and isinstance(b, dict):  # those of a method hold what was set alone
            return [
                line
                for key in dict.fromkeys([*a, *b])
                for line in walk(a.get(key, _UNSET), b.get(key, _UNSET), f"{prefix}.{key}" if prefix else key)
            ]
        return [] if a == b else [f"{prefix}: {a!r} -> {b!r}"]

    return walk(as_dict(old), as_dict(new), "")
