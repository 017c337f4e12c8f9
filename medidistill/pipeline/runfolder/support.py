"""One archive for whoever helps from outside: how the run was set and how it went, and nothing of a patient.

The archive is made of values, not of files: each part is read, and only what is known to be free of patient
values is written. Class names, sites, file names, patient numbers, labels and the free text of the configuration
stay out, whatever they say.
"""

from __future__ import annotations

import io
import json
import platform
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medidistill.config import RunConfig, as_dict
from medidistill.config.fields import rules
from medidistill.errors import ConfigError, MedidistillError
from medidistill.files import read_json, write_bytes
from medidistill.jsontypes import JsonObject  # settings and facts of any version, redacted
from medidistill.pipeline.config_io.config_file import load_config
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.pipeline.runfolder.status import read_status
from medidistill.record import RunRecord, hardware, versions
from medidistill.results.run_status import RunStatus

__all__ = ["make_support_package"]

_FACTS = ("inputs", "finished", "files", "cells", "quarantined", "best_step", "alpha", "method", "data")
# what `read_status` adds to the file of the journal names classes, counts their patients, and quotes the policy
_OF_THE_JOURNAL = frozenset(RunStatus.__annotations__) - {"verdict", "release_check"}
_ARM_OF_BUNDLE = re.compile(r"\bbundle-[A-Za-z0-9-]+")  # an arm called by the folder of a bundle from elsewhere
_README = """\
Made by `medidistill support`. Inside: versions, hardware, settings without free text, the status, the events, the
record's digests, sizes of the run's own files, distillation curves. Left out: images, tables, predictions, class
names, sites, the names of input files, paths, host and user names. Look through it before you send it.
"""


def make_support_package(folder: RunFolder, target: Path) -> list[str]:
    """Write the archive `target` (zip) about a run. Returns the names in it.

    Raises:
        ConfigError: the folder holds no run, or `target` exists.
        ResourceError: `target` cannot be written.
    """
    if not folder.holds_run():
        raise ConfigError(f"{folder.path}: holds no medidistill run")
    if target.exists():
        raise ConfigError(f"--output {target}: exists; name a new file")
    parts: dict[str, str] = {"README.txt": _README}
    makers: dict[str, Callable[[], Any]] = {
        "environment.json": lambda: {"versions": versions(), "hardware": hardware(), "system": platform.system()},
        "configuration.json": lambda: _settings(load_config(folder.config_file)),
        "status.json": lambda: _status(folder),
        "record.json": lambda: _record(folder),
        "files.json": lambda: _files(folder),
        "curves.json": lambda: _curves(folder),
    }
    for name, make in makers.items():
        try:
            value: Any = make()
        except MedidistillError as error:
            value = {"unreadable": type(error).__name__}
        parts[name] = _ARM_OF_BUNDLE.sub("bundle", json.dumps(value, indent=2, sort_keys=True)) + "\n"
    if folder.events_file.is_file():
        parts["events.jsonl"] = _ARM_OF_BUNDLE.sub(
            "bundle", folder.events_file.read_text(encoding="utf-8", errors="replace")
        )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in parts.items():
            file.writestr(f"medidistill-support/{name}", text)
    write_bytes(target, archive.getvalue(), mode=0o600)
    return list(parts)


def _settings(config: Any) -> JsonObject:
    """Return the settings; text that may say anything, a path among it, becomes its length."""
    plain: JsonObject = {}
    for name, rule in rules(type(config)).items():
        value = getattr(config, name)
        if rule.is_section:
            plain[name] = _settings(value)
        elif isinstance(value, str | tuple) and not rule.options:
            plain[name] = f"({len(value)} withheld)"
        else:
            plain[name] = dict(value) if isinstance(value, Mapping) else value
    return plain


def _status(folder: RunFolder) -> JsonObject:
    """Return the status; of the verdict its colour alone, of the release check the rules that cannot be resolved."""
    whole = read_status(folder.path)
    told: JsonObject = {key: value for key, value in whole.items() if key in _OF_THE_JOURNAL}
    verdict, check = whole.get("verdict"), whole.get("release_check")
    told["verdict"] = None if verdict is None else {"colour": verdict.get("colour")}
    told["release_check"] = None if check is None else {key: check.get(key) for key in ("wanted", "profile")}
    if check is not None:
        found = [one for one in check.get("unresolvable", ()) if isinstance(one, Mapping)]
        told["release_check"]["unresolvable"] = [one.get("rule") for one in found]
    return told


def _record(folder: RunFolder) -> JsonObject:
    record = RunRecord.load(folder.record_file)
    stages = {
        name: {key: value for key, value in facts.items() if key in _FACTS} for name, facts in record.stages.items()
    }
    counts = record.stages.get("ingest", {}).get("images", {})
    return {
        "started": record.started,
        "versions": record.versions,
        "hardware": record.hardware,
        "stages": stages,
        "images": {split: list(by_class.values()) for split, by_class in counts.items()},
        "test_openings": len(record.test_openings),
        "config_is_default": record.config == as_dict(RunConfig()),
    }


def _files(folder: RunFolder) -> dict[str, int]:
    """Return the sizes of the run's own files; those in `ingest` are counted, not named."""
    sizes, patients = {}, 0
    for path in sorted(folder.path.rglob("*")):
        if path.is_file() and not path.is_symlink():
            name = path.relative_to(folder.path)
            if name.parts[0] == "ingest":
                patients += 1
            elif name.parts[0] in ("experts", "distill", "evaluate") and path.suffix in (".safetensors", ".json"):
                sizes[name.as_posix()] = path.stat().st_size
    return {**sizes, "ingest/*": patients}


def _curves(folder: RunFolder) -> JsonObject:
    files = sorted(folder.path.glob("distill/*/history.json"))
    return {file.parent.name: {key: read_json(file)[key] for key in ("status", "entries", "events")} for file in files}
