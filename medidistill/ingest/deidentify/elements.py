"""The elements of a dataset as they stand in the file: bytes, declared character set and place, at any depth.

pydicom decodes a value on first use and keeps no bytes; a wrong character set has destroyed the value then. Here each
element is taken before that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

__all__ = ["Element", "walk"]

_CHARACTER_SET = 0x00080005


@dataclass(frozen=True)
class Element:
    """One element that is no sequence.

    Args:
        where: tags from the top level down, for example ``(0040,0275)[0](0040,0009)``.
        tag: group and element, 32 bits.
        vr: as the file gives it, else as the dictionary does.
        known_vr: as the dictionary gives it, empty where the element is private or unknown.
        raw: the value's bytes; of a value decoded before, its text in UTF-8.
        charset: (0008,0005) of the dataset, or of the one around it.
    """

    where: str
    tag: int
    vr: str
    known_vr: str
    raw: bytes
    charset: tuple[str, ...]


def walk(dataset: Dataset, prefix: str = "", charset: tuple[str, ...] = ()) -> Iterator[Element]:
    """Yield the elements of a dataset and of every item in it, without decoding those that still have their bytes."""
    charset = _charset(dataset) or charset
    for tag in sorted(dataset.keys()):
        item: DataElement | RawDataElement = dataset.get_item(tag, keep_deferred=True)
        where = f"{prefix}({tag.group:04X},{tag.element:04X})"
        known = _known(int(tag))
        if (item.VR or known) == "SQ" or (item.VR in (None, "UN") and known == "SQ"):
            item = dataset[tag]
        if item.VR == "SQ" and isinstance(item, DataElement):
            for number, nested in enumerate(item.value or ()):
                yield from walk(nested, f"{where}[{number}]", charset)
        else:
            yield Element(where, int(tag), item.VR or known or "UN", known, _raw(item), charset)


def _known(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


def _raw(item: DataElement | RawDataElement) -> bytes:
    value = item.value
    if isinstance(value, bytes):
        return value
    if value is None or isinstance(item, RawDataElement):
        return b""  # empty, or deferred
    many = value if isinstance(value, list | tuple) or hasattr(value, "insert") else [value]
    return b"\\".join(_one(value) for value in many)


def _one(value: object) -> bytes:
    if isinstance(value, PersonName) and isinstance(value.original_string, bytes):
        return value.original_string
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def _charset(dataset: Dataset) -> tuple[str, ...]:
    item = dataset.get_item(_CHARACTER_SET) if _CHARACTER_SET in dataset else None
    if item is None:
        return ()
    return tuple(part.strip() for part in _raw(item).decode("latin-1").rstrip("\0 ").split("\\"))
