"""Settings of the de-identification: a frozen dataclass, and the recipe of a site in YAML.

The key is no setting: it comes from a file or the environment (`medidistill.ingest.deidentify.keys`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from medidistill.errors import ConfigError, did_you_mean

__all__ = ["DeidentifyConfig", "load_recipe"]

_DATES = ("shift", "retain", "remove")
_NEVER_KEPT = frozenset(
    tag_for_keyword(name) for name in ("PatientName", "PatientID", "PatientBirthDate", "PixelData", "SOPInstanceUID")
)
_REPLACEABLE = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "SH", "ST", "TM", "UC", "UT"})


@dataclass(frozen=True)
class DeidentifyConfig:
    """What is kept beyond the basic profile, what a site adds, and which files are let through.

    Args:
        dates: `shift` (one offset a patient, whole days), `retain` (as they are) or `remove`.
        patient_characteristics: keep age (90 and above as 90), sex, size, weight, smoking and pregnancy status.
        modalities: values of (0008,0060) that are let through; everything else is quarantined.
        pictures: also accept PNG and JPEG: the site asserts that they are radiographs, as no header does.
        max_quarantine: largest share of the files that may be quarantined, in [0, 1].
        remove: keywords or ``(gggg,eeee)`` of elements that this site removes in addition.
        keep: keywords or tags that this site keeps although the profile would not.
        replace: keyword or tag -> text that takes the place of the value where the element is present.
        key_fingerprint: what `Key.fingerprint` must be; empty: any key.
    """

    dates: str = "shift"
    patient_characteristics: bool = False
    modalities: tuple[str, ...] = ("CR", "DX")
    pictures: bool = False
    max_quarantine: float = 0.1
    remove: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    replace: tuple[tuple[str, str], ...] = ()
    key_fingerprint: str = ""

    def __post_init__(self) -> None:
        if self.dates not in _DATES:
            raise ConfigError(f"dates={self.dates!r}: must be one of {', '.join(_DATES)}")
        for name in ("patient_characteristics", "pictures"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}={getattr(self, name)!r}: must be true or false")
        number = self.max_quarantine
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1:
            raise ConfigError(f"max_quarantine={number!r}: must be in [0, 1]")
        if not isinstance(self.key_fingerprint, str):
            raise ConfigError("key_fingerprint: must be text in quotes")
        for name in ("modalities", "remove", "keep"):
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        if not self.modalities:
            raise ConfigError("modalities=(): must name at least one, for example CR")
        pairs = self.replace.items() if isinstance(self.replace, Mapping) else self.replace
        object.__setattr__(self, "replace", tuple((str(key), str(value)) for key, value in pairs))
        self._check_tags()

    @property
    def remove_tags(self) -> frozenset[int]:
        """Tags that the site removes."""
        return frozenset(map(_tag, self.remove))

    @property
    def keep_tags(self) -> frozenset[int]:
        """Tags that the site keeps."""
        return frozenset(map(_tag, self.keep))

    @property
    def replacements(self) -> dict[int, str]:
        """Tag -> the site's text."""
        return {_tag(key): value for key, value in self.replace}

    def _check_tags(self) -> None:
        groups = (self.remove_tags, self.keep_tags, frozenset(self.replacements))
        for tag in sorted((self.keep_tags | groups[2]) & _NEVER_KEPT):
            raise ConfigError(f"({tag >> 16:04X},{tag & 0xFFFF:04X}): can be neither kept nor replaced by a site")
        twice = (groups[0] & groups[1]) | (groups[0] & groups[2]) | (groups[1] & groups[2])
        for tag in sorted(twice):
            raise ConfigError(f"({tag >> 16:04X},{tag & 0xFFFF:04X}): is in two of remove, keep, replace; choose one")
        for name, _ in self.replace:
            if dictionary_VR(_tag(name)) not in _REPLACEABLE:
                raise ConfigError(f"replace: {name} holds no plain text; remove it instead")


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable) or not all(isinstance(one, str) for one in value):
        raise ConfigError(f"{name}: must be a list of texts")
    return tuple(value)


def _tag(name: str) -> int:
    """Return the tag of a keyword or of ``(gggg,eeee)``; public, known elements only."""
    if found := re.fullmatch(r"\(?([0-9A-Fa-f]{4}),? ?([0-9A-Fa-f]{4})\)?", name.strip()):
        tag = int(found[1] + found[2], 16)
        try:
            dictionary_VR(tag)
        except KeyError:
            raise ConfigError(
                f"{name}: is no public element of the standard; private ones are always removed"
            ) from None
        return tag
    tag_or_none = tag_for_keyword(name.strip())
    if tag_or_none is None:
        raise ConfigError(f"{name!r}: is no DICOM keyword{did_you_mean(name, keyword_dict)}")
    return tag_or_none


def load_recipe(path: Path) -> DeidentifyConfig:
    """Read a site's recipe: YAML with the fields of `DeidentifyConfig`.

    Raises:
        ConfigError: no such file, not YAML, an unknown key (the nearest is named) or a value out of range.
    """
    path = Path(path)
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such recipe") from error
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ConfigError(f"{path}: not a readable YAML file ({type(error).__name__})") from error
    if content is None:
        raise ConfigError(f"{path}: is empty, or holds comments alone; leave --recipe out to use the defaults")
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold keys and values")
    known = [item.name for item in dataclasses.fields(DeidentifyConfig)]
    for key in content:
        if key not in known:
            guess = did_you_mean(str(key), known)
            raise ConfigError(f"{path}: unknown key {key!r}{guess}; known: {', '.join(known)}")
    try:
        return DeidentifyConfig(**content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: a value has the wrong type ({error})") from error
