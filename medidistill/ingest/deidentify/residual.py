"""The independent check: what the input's identifying elements held must be nowhere in the written file.

It shares no rule with the engine. It takes the values from the input by its own list, reads the output back from the
disk, and searches all of it: the text of every element at every depth, in every plausible decoding and spelling; and
every byte, pixels included. A short name stands in random bytes by chance, so how short a name may be depends on
where it is looked for (the rates were measured on radiographs: docs/deidentification.md):

==================================  =================================================================
text of elements                    whole words of 2 letters, whole numbers of 4 digits; 5 letters anywhere
printable text among binary values  the same, in runs of 16 characters and more
bytes outside binary values         whole words of 3 letters, whole numbers of 4 digits; 5 letters anywhere
binary values, pixels among them    4 and 5 letters or digits between separators; 6 anywhere
==================================  =================================================================
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from anyascii import anyascii
from pydicom.dataset import Dataset
from pydicom.uid import UID

from medidistill.ingest.deidentify.attributes import RENDERING, is_defined_term
from medidistill.ingest.deidentify.bytesearch import SHORTEST, ByteSearch
from medidistill.ingest.deidentify.codes import CODED, meaning_of
from medidistill.ingest.deidentify.elements import Element, walk
from medidistill.ingest.deidentify.identifiers import Identifiers
from medidistill.ingest.deidentify.spelling import ENCODINGS, contractions, decodings, fold, spellings

__all__ = ["TextSearch", "residuals"]


def _ascii(text: str) -> str:
    """Return a letter beyond ASCII as small letters of ASCII; an empty text for anything else."""
    return fold(anyascii(text)) if text.isalpha() and not text.isascii() else ""


_BINARY = frozenset({"OB", "OW", "OD", "OF", "OL", "OV", "UN", "OB or OW", "US or OW"})
_TYPES = {"US": "u2", "SS": "i2", "UL": "u4", "SL": "i4", "UV": "u8", "SV": "i8", "FL": "f4", "FD": "f8", "AT": "u2"}
_NUMERIC = frozenset({*_TYPES, "US or SS", "DS", "IS"})
_LARGE = 64  # a binary value of fewer bytes is searched as a header is
_RUN = re.compile(rb"[\x20-\x7e]{16,}")
_SEPARATORS = frozenset(b" \0^=\\,;:./-_\r\n\t\"'<>()")
_ALNUM = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_SUBSTRING, _ANYWHERE = 5, 6  # letters from which on a word counts inside another: in text, in binary values
_CODE_TAGS = frozenset({*CODED, 0x00080102, 0x00080104})
# letters with marks, of Latin-1 and of two bytes in UTF-8: a name may stand there in full where the header reduced it
_BASE_LETTERS = bytes((_ascii(chr(one)) or chr(one)).encode("latin-1")[0] for one in range(256))
_MARKED = re.compile(rb"[\xc3-\xc5][\x80-\xbf]")
_DEFLATED = "1.2.840.10008.1.2.1.99"


@dataclass(frozen=True)
class _Pattern:
    """One text as bytes: how many signs it has, whether they are all digits, and how many bytes a sign takes."""

    signs: int
    digits: bool
    width: int


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
    header = _without(_inflated(data, dataset), apart)
    large = [value for value in binary if len(value) >= _LARGE]
    if any(search.finds_in_text(run) for value in binary for run in _runs(value)) or _in_bytes(header, large, needles):
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


def _runs(value: bytes) -> Iterator[str]:
    for found in _RUN.finditer(value):
        yield found.group().decode("ascii")


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


def _patterns(needles: Identifiers) -> dict[bytes, _Pattern]:
    """Return every identifier in every encoding and case, as small letters of ASCII."""
    found: dict[bytes, _Pattern] = {}
    texts = set(needles.texts | needles.written | needles.phones)
    texts |= {one for text in needles.texts if text.isascii() for one in contractions(text)}
    for text in texts:
        cases = {text} if text.isascii() else {text, text.casefold(), text.upper(), text.title()}
        number = text.isdigit() and text not in needles.phones
        for case in cases:
            for encoding in ENCODINGS:
                try:
                    raw = case.encode(encoding).lower()
                except UnicodeError:
                    continue
                width = 2 if encoding.startswith("utf-16") else 1
                signs = len(text) if text.isascii() else len(raw) // width
                if len(raw) >= SHORTEST and signs >= SHORTEST:
                    found.setdefault(raw, _Pattern(signs, number, width))
    for raw in needles.raw:
        if len(raw) >= SHORTEST:
            found.setdefault(raw.lower(), _Pattern(len(raw), digits=False, width=1))
    return found


def _in_bytes(header: bytes, large: list[bytes], needles: Identifiers) -> bool:
    """Return whether the bytes of a file, those of the large values and those around them, hold an identifier."""
    patterns = _patterns(needles)
    if not patterns:
        return False
    short = ByteSearch(patterns)
    long = ByteSearch(raw for raw, one in patterns.items() if one.signs >= _ANYWHERE - 2)
    plain = ByteSearch(raw for raw in patterns if len(raw) >= _ANYWHERE and raw.isascii() and b"\0" not in raw)
    return (
        any(_counts(header, at, raw, patterns[raw], _SUBSTRING, None) for raw, at in short.find(header))
        or any(
            _counts(value, at, raw, patterns[raw], _ANYWHERE, _SEPARATORS)
            for value in large
            for raw, at in long.find(value)
        )
        or any(
            _counts(view, at, raw, patterns[raw], _ANYWHERE, _SEPARATORS)
            for value in (header, *large)
            for view in (value.translate(_BASE_LETTERS), _MARKED.sub(_base_letter, value))
            for raw, at in plain.find(view)
        )
    )


def _base_letter(found: re.Match[bytes]) -> bytes:
    return _ascii(found.group().decode("utf-8")).encode() or b"?"


def _counts(
    data: bytes, at: int, raw: bytes, pattern: _Pattern, anywhere: int, separators: frozenset[int] | None
) -> bool:
    """Return whether a place counts, by what stands before and behind it.

    Args:
        data: what was searched.
        at: where the pattern begins.
        raw: the pattern.
        pattern: what it is.
        anywhere: from how many signs on it counts wherever it is.
        separators: what must stand around a shorter one; None: anything but letters and digits of ASCII.
    """
    end, big_endian = at + len(raw), pattern.width == 2 and raw[0] == 0
    before = data[at - pattern.width + big_endian] if at >= pattern.width else 0
    after = data[end + big_endian] if end + big_endian < len(data) else 0
    if pattern.digits and pattern.signs >= anywhere:
        return not (48 <= before <= 57 or 48 <= after <= 57)
    if pattern.signs >= anywhere:
        return True
    if separators is not None:
        return before in separators and after in separators
    return before not in _ALNUM and after not in _ALNUM
