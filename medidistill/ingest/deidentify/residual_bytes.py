"""The bytes of a written file, searched for identifiers in every encoding; the rules are those of `residual`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from anyascii import anyascii

from medidistill.ingest.deidentify.bytesearch import SHORTEST, ByteSearch
from medidistill.ingest.deidentify.identifying_values import Identifiers
from medidistill.ingest.deidentify.spelling import ENCODINGS, contractions, fold

__all__ = ["ANYWHERE", "BETWEEN", "SEPARATORS", "Pattern", "bytes_found", "counts", "patterns_of"]

BETWEEN, ANYWHERE = 4, 6  # letters of a name in binary values: between separators, and wherever it is
_SUBSTRING = 5  # the same outside binary values
SEPARATORS = frozenset(b" \0^=\\,;:./-_\r\n\t\"'<>()")
_ALNUM = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def _ascii(text: str) -> str:
    """Return a letter beyond ASCII as small letters of ASCII; an empty text for anything else."""
    return fold(anyascii(text)) if text.isalpha() and not text.isascii() else ""


# letters with marks, of Latin-1 and of two bytes in UTF-8: a name may stand there in full where the header reduced it
_BASE_LETTERS = bytes((_ascii(chr(one)) or chr(one)).encode("latin-1")[0] for one in range(256))
_MARKED = re.compile(rb"[\xc3-\xc5][\x80-\xbf]")


@dataclass(frozen=True)
class Pattern:
    """One text as bytes: how many signs it has, whether they are all digits, and how many bytes a sign takes."""

    signs: int
    digits: bool
    width: int


def patterns_of(needles: Identifiers) -> dict[bytes, Pattern]:
    """Return every identifier in every encoding and case, as small letters of ASCII."""
    found: dict[bytes, Pattern] = {}
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
                    found.setdefault(raw, Pattern(signs, number, width))
    for raw in needles.raw:
        if len(raw) >= SHORTEST:
            found.setdefault(raw.lower(), Pattern(len(raw), digits=False, width=1))
    return found


def bytes_found(header: bytes, large: Sequence[bytes], needles: Identifiers) -> Iterator[bytes]:
    """Yield the identifiers that bytes hold, as they stand there in small letters.

    Args:
        header: what is no large binary value.
        large: pixel data and other binary values.
        needles: from `identifiers`.
    """
    patterns = patterns_of(needles)
    short = ByteSearch(patterns)
    long = ByteSearch(raw for raw, one in patterns.items() if one.signs >= BETWEEN)
    plain = ByteSearch(raw for raw in patterns if len(raw) >= ANYWHERE and raw.isascii() and b"\0" not in raw)
    for raw, at in short.find(header):
        if counts(header, at, raw, patterns[raw], _SUBSTRING, None):
            yield raw
    for value in large:
        for raw, at in long.find(value):
            if counts(value, at, raw, patterns[raw], ANYWHERE, SEPARATORS):
                yield raw
    for value in (header, *large):
        for view in (value.translate(_BASE_LETTERS), _MARKED.sub(_base_letter, value)):
            for raw, at in plain.find(view):
                if counts(view, at, raw, patterns[raw], ANYWHERE, SEPARATORS):
                    yield raw


def _base_letter(found: re.Match[bytes]) -> bytes:
    return _ascii(found.group().decode("utf-8")).encode() or b"?"


def counts(
    data: bytes, at: int, raw: bytes, pattern: Pattern, anywhere: int, separators: frozenset[int] | None
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
