"""The independent check: what the input's identifying elements held must be nowhere in the written file.

It shares no rule with the engine. It takes the values from the input by its own list, reads the output back from the
disk, and searches all of it: the text of every element at every depth, in every plausible decoding and spelling; and
every byte, pixels included. A short name stands in random bytes by chance, so how short a name may be depends on
where it is looked for (the rates were measured on radiographs: docs/deidentification.md):

==================================  =================================================================
text of elements                    whole words of 2 letters, whole numbers of 4 digits; 5 letters anywhere
bytes outside binary values         whole words of 3 letters, whole numbers of 4 digits; 5 letters anywhere
binary values, pixels among them    4 and 5 letters or digits between separators; 6 anywhere
what reads like text among those    as in the text of elements, in runs of 16 characters and more
==================================  =================================================================
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID

from medidistill.ingest.deidentify.attributes import RENDERING, is_defined_term
from medidistill.ingest.deidentify.codes import CODED, meaning_of
from medidistill.ingest.deidentify.elements import Element, walk
from medidistill.ingest.deidentify.identifying_values import Identifiers
from medidistill.ingest.deidentify.residual_bytes import bytes_found
from medidistill.ingest.deidentify.spelling import decodings, fold, spellings

__all__ = ["TextSearch", "residuals", "text_runs"]

_BINARY = frozenset({"OB", "OW", "OD", "OF", "OL", "OV", "UN", "OB or OW", "US or OW"})
_TYPES = {"US": "u2", "SS": "i2", "UL": "u4", "SL": "i4", "UV": "u8", "SV": "i8", "FL": "f4", "FD": "f8", "AT": "u2"}
_NUMERIC = frozenset({*_TYPES, "US or SS", "DS", "IS"})
_LARGE = 64  # a binary value of fewer bytes is searched as a header is
_RUN = re.compile(rb"[\x20-\x7e]{16,}")
_PARTS_WORDS = frozenset(" ,;:=./^()<>\"'-")
_NO_SEPARATOR = str.maketrans(dict.fromkeys("`[]{}|~@#$%&*+!?\\_", "0"))
_SUBSTRING = 5  # letters from which on a word counts inside another
_CODE_TAGS = frozenset({*CODED, 0x00080102, 0x00080104})
_DEFLATED = "1.2.840.10008.1.2.1.99"


def residuals(path: Path, needles: Identifiers, *, may_hold: Iterable[str] = ()) -> list[str]:
    """Read a written file again and return where an identifier was found; empty: nowhere.

    Args:
        path: the written file.
        needles: from `identifiers`.
        may_hold: texts that belong there although an identifier may be in them, such as the pseudonym.

    Returns:
        Tags such as ``(0008,103E)``, ``preamble`` or ``bytes``; never a value.
    """
    data = Path(path).read_bytes()
    dataset = pydicom.dcmread(io.BytesIO(data))
    search, allowed = TextSearch(needles), frozenset(map(fold, may_hold))
    hits, apart, binary = ["preamble"] if any(data[:128]) else [], [], []
    listed = set(_coded_values(dataset))
    for element in [*walk(dataset.file_meta), *walk(dataset)]:
        if element.vr in _BINARY or element.known_vr in _BINARY:
            binary.append(element.raw)
            apart += [element] if len(element.raw) >= _LARGE else []
        elif (element.where, element.raw) in listed or _is_public(element, allowed):
            apart.append(element)
        elif search.finds(element):
            hits.append("file meta" if element.tag >> 16 == 2 else element.where.rpartition("]")[2])
        elif element.tag in RENDERING and element.vr in ("DS", "IS"):
            apart.append(element)  # a short number may stand here
    header = _without(_inflated(data, dataset), apart)
    large = [value for value in binary if len(value) >= _LARGE]
    text = "\n".join(run for value in binary for run in text_runs(value))
    if search.finds_in_text(text) or next(bytes_found(header, large, needles), None):
        hits.append("bytes")
    return list(dict.fromkeys(hits))


def _inflated(data: bytes, dataset: Dataset) -> bytes:
    """Return the bytes of a file as a reader sees them: those of a deflated data set unpacked."""
    if str(dataset.file_meta.get("TransferSyntaxUID", "")) != _DEFLATED:
        return data
    start = 132 + 12 + int(dataset.file_meta.FileMetaInformationGroupLength)
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    return data[:start] + unpack.decompress(data[start:]) + unpack.unused_data


def _without(body: bytes, elements: Iterable[Element]) -> bytes:
    """Return the bytes of a file without the values of some elements, in the order of the file.

    A value is found by its tag: 8 bytes before it, or 12 where the VR has a long length (PS3.5 7.1).
    """
    left, at = [], 0
    for element in elements:
        pairs = (element.tag >> 16).to_bytes(2, "little"), (element.tag & 0xFFFF).to_bytes(2, "little")
        tags = (b"".join(pairs), b"".join(pair[::-1] for pair in pairs))
        places = (
            place
            for tag in tags
            for found in _each(body, tag, at)
            for place in (found + 8, found + 12)
            if body.startswith(element.raw, place)
        )
        place = next(places, -1)
        if place >= 0 and element.raw:
            left += [body[at:place], b"\0\0"]
            at = place + len(element.raw)
    return b"".join([*left, body[at:]])


def _each(body: bytes, tag: bytes, start: int) -> Iterator[int]:
    while (start := body.find(tag, start)) >= 0:
        yield start
        start += 1


def text_runs(value: bytes) -> Iterator[str]:
    """Yield what reads like text among binary values: 16 printable characters, nine tenths letters, digits or blanks.

    Grey values of a smooth picture are printable too, but hold no blanks and much that no text has; what stands in no
    name or sentence parts no words here, and where nothing parts words there is no short one.
    """
    for found in _RUN.finditer(value):
        run = found.group().decode("ascii")
        if not _PARTS_WORDS.isdisjoint(run) and sum(sign.isalnum() or sign == " " for sign in run) >= 0.9 * len(run):
            yield run.translate(_NO_SEPARATOR)


def _coded_values(dataset: Dataset) -> Iterator[tuple[str, bytes]]:
    """Yield place and bytes of each part of a coded entry that is word for word the standard's."""
    by_item: dict[str, dict[int, Element]] = {}
    for element in walk(dataset):
        if element.tag in _CODE_TAGS:
            by_item.setdefault(element.where.rpartition("(")[0], {})[element.tag] = element
    for parts in by_item.values():
        code, scheme, meaning = (
            parts[tag].raw.decode("latin-1").strip(" \0") if tag in parts else ""
            for tag in (0x00080100, 0x00080102, 0x00080104)
        )
        if meaning and meaning_of(scheme, code) == meaning:
            yield from ((one.where, one.raw) for one in parts.values())


def _is_public(element: Element, allowed: frozenset[str]) -> bool:
    """Return whether a value is one of the standard's own or was put there on purpose."""
    text = element.raw.decode("latin-1").strip(" \0")
    if fold(text) in allowed or (element.tag == 0x00120063 and all(fold(one) in allowed for one in text.split("\\"))):
        return True
    if element.vr == "UI":
        return all(UID(one.strip(" \0"), 0).name != one.strip(" \0") for one in text.split("\\") if one)
    return bool(text) and all(not one or is_defined_term(element.tag, one.strip()) for one in text.split("\\"))


class TextSearch:
    """Searches texts for the identifiers, in every spelling of both."""

    def __init__(self, needles: Identifiers) -> None:
        self._pattern, self._phones = _expression(needles.texts), sorted(needles.phones)
        self._short_numbers = {text for text in needles.texts if text.isdigit() and len(text) < 6}
        self._long_numbers = _expression(text for text in needles.texts if text.isdigit() and len(text) >= 6)

    def finds(self, element: Element) -> bool:
        """Return whether an element holds an identifier."""
        if element.vr in _NUMERIC:
            return self._finds_number(element)
        texts = decodings(element.raw, element.charset)
        return any(self.finds_in_text(text, joined=element.vr != "UI") for text in texts)

    def finds_in_text(self, text: str, *, joined: bool = True) -> bool:
        """Return whether a text holds an identifier; numbers count without what separates their digits, too."""
        for spelling in spellings(text):
            if self._pattern is not None and self._pattern.search(spelling):
                return True
            if joined and any(map(str.isdigit, spelling)):
                digits = re.sub(r"(?<=\d)[ ./-]+(?=\d)", "", spelling)
                if self._long_numbers is not None and self._long_numbers.search(digits):
                    return True
                if any(phone in digits for phone in self._phones):
                    return True
        return False

    def _finds_number(self, element: Element) -> bool:
        """Return whether a number is a number of the patient: short ones as a whole, long ones among its digits."""
        if element.vr in ("DS", "IS"):
            texts = element.raw.decode("latin-1").strip(" \0").split("\\")
        else:
            texts = _numbers(element)
        for text in texts:
            digits = text.strip().lstrip("+-0").partition(".")
            if element.tag not in RENDERING and digits[0] in self._short_numbers and not digits[2].strip("0"):
                return True
            if self._long_numbers is not None and self._long_numbers.search(text):
                return True
            if any(phone in text for phone in self._phones):
                return True
            if self._pattern is not None and re.search(r"[^\W\d]", fold(text)) and self._pattern.search(fold(text)):
                return True
        return False


def _numbers(element: Element) -> list[str]:
    """Return the values of a binary number as text, in either byte order."""
    kind = _TYPES[element.vr.partition(" or ")[0]]
    size = int(kind[1])
    raw = element.raw[: len(element.raw) // size * size]
    values = [value for order in "<>" for value in np.frombuffer(raw, order + kind).tolist()]
    whole = (f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value) for value in values)
    return list(whole)


def _expression(needles: Iterable[str]) -> re.Pattern[str] | None:
    """Return one expression for all: short words as whole words, numbers not inside longer numbers."""
    parts = []
    for needle in sorted(needles):
        literal = re.escape(needle)
        if needle.isdigit():
            literal = rf"(?<!\d){literal}(?!\d)"
        elif needle.isascii() and len(needle) < _SUBSTRING:
            literal = rf"(?<![^\W_]){literal}(?![^\W_])"
        parts.append(literal)
    return re.compile("|".join(parts)) if parts else None
