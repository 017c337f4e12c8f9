"""The mapping file of a merge: how each hospital's class names translate into those of the merged set.

classes: [COVID-19, Normal, Pneumonia]      # of the merged set, in label order
bundles:
  north/bundle: {COVID: COVID-19, Healthy: Normal, Bacterial: Pneumonia, Viral: Pneumonia}
  south/bundle: {Other: null}               # left out; names that agree need no line
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medidistill.errors import ConfigError, did_you_mean
from medidistill.export.merging import ClassMapping
from medidistill.pipeline.config_io.config_file import read_yaml

__all__ = ["load_class_mapping"]


def load_class_mapping(path: Path, bundles: Sequence[Path]) -> list[ClassMapping]:
    """Read a mapping file and return the mapping of each bundle, in order.

    A bundle is named as on the command line, or relative to the folder of the file; one that the file does not name
    keeps its class names.

    Args:
        path: the YAML file.
        bundles: what is merged.

    Raises:
        ConfigError: not such a file, a bundle that is not merged, or names that do not fit.
    """
    plain = read_yaml(path)
    if not isinstance(plain, Mapping) or not set(plain) <= {"classes", "bundles"} or "classes" not in plain:
        raise ConfigError(f"{path}: must have the keys classes (a list of names) and bundles (a section for each)")
    classes = plain["classes"]
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ConfigError(f"{path}: classes={classes!r}: must be a list of names; quote numbers")
    sections = plain.get("bundles") or {}
    if not isinstance(sections, Mapping):
        raise ConfigError(f"{path}: bundles={sections!r}: must be a section of class names for each bundle")
    found: dict[int, ClassMapping] = {}
    for name, section in sections.items():
        number = _number_of(str(name), path, bundles)
        if number in found:
            raise ConfigError(f"{path}: bundles.{name}: names {bundles[number]} a second time")
        try:
            found[number] = ClassMapping(tuple(classes), _targets(section))
        except ConfigError as error:
            raise ConfigError(f"{path}: bundles.{name}: {error}") from error
    try:
        same = ClassMapping(tuple(classes))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return [found.get(number, same) for number in range(len(bundles))]


def _number_of(name: str, file: Path, bundles: Sequence[Path]) -> int:
    places = {Path(name).resolve(), (file.parent / name).resolve()}
    for number, bundle in enumerate(bundles):
        if str(bundle) == name or Path(bundle).resolve() in places:
            return number
    known = [str(bundle) for bundle in bundles]
    raise ConfigError(
        f"{file}: bundles.{name}: is not merged{did_you_mean(name, known)}; the bundles are {', '.join(known)}"
    )


def _targets(section: Any) -> dict[str, str | None]:
    if not isinstance(section, Mapping):
        raise ConfigError(f"{section!r}: must be a section such as {{COVID: COVID-19, Other: null}}")
    for old, new in section.items():
        if not isinstance(old, str) or not (new is None or isinstance(new, str)):
            raise ConfigError(f"{old!r}: {new!r}: must be names, or null as target; quote numbers")
    return dict(section)
